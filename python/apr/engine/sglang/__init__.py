"""A client of SGLang servers, and the servers of this process."""
