"""One file a data set, all with the same table; images in memory, augmentation, sampling."""
