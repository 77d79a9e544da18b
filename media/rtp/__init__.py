"""RTP and RTCP arithmetic: pure cores, no sockets, no clock."""
