//! The whole system, tried in earnest: the real binary, real sockets, real clients.

#![forbid(unsafe_code)]
