"""SipHash-2-4 of the bytes 00 01 02 ... under the key 00..0f (vectors.h of the reference implementation)."""

KEY = bytes(range(16))

SIP64 = {  # length: the 8 output bytes
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    2: "5a4fa9d909806c0d",
    3: "2d7efbd796666785",
    7: "37d1018bf50002ab",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
}
SIP128 = {  # length: the 16 output bytes
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
}
SIP13 = {  # SipHash-1-3 of length 0, as in the tests of Rust's standard library
    0: "dcc40f055801acab",
}
