"""The weights of red, green and blue in a grayscale image.

Pillow and torchvision round the same coefficients differently; each is used where pixels have to match that library's.
"""

ITU_R_601 = (0.299, 0.587, 0.114)  # for images converted to grayscale, as in Pillow
TORCHVISION = (0.2989, 0.587, 0.114)  # for augmentation, which matches torchvision's pixels
