"""Following a stream: windows, segments, and what is said of them."""
