"""The live server: sessions, transports, protocol. `vivavoz serve` runs it; it needs the extra `serve`."""
