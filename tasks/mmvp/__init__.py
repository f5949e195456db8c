"""MMVP (Tong et al. 2024): pairs of images that CLIP takes for alike, one question for both."""
