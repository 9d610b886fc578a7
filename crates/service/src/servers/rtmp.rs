//! The RTMP server's sockets.
