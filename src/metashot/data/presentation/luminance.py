"""How red, green and blue make the brightness of a grey image.

Two standards round the same coefficients differently. Each is kept where others compare pixels with its own implementation.
"""

ITU_R_601 = (0.299, 0.587, 0.114)  # of images that are made grey, as Pillow does it
TORCHVISION = (0.2989, 0.587, 0.114)  # of augmentation, which gives the pixels that torchvision gives
