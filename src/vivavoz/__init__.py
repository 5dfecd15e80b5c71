"""vivavoz: portrait images and live speech in, a live talking-portrait video out."""

__version__ = "0.1.0"
