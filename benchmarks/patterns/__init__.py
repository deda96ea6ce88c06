"""A plug-in with a source that draws any number of classes and images: `plugins=[benchmarks.patterns] data=patterns`."""
