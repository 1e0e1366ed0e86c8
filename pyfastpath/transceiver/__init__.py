"""The stateful side of a call: ICE, DTLS, SRTP, Opus and the conversation. Pure below `endpoint`."""
