"""The kinds of data sets, and what they are made from: images, annotations, instructions."""
