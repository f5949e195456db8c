"""Where vision fails: CLIP-blind pairs, questions made of them, and MMVP-VLM (Tong et al. 2024)."""
