# Addresses as tests write them: (address16, port, family[, ingress]).
from libc.string cimport memcpy, memset

from fastpath.layout cimport fp_client, fp_endpoint


cdef inline fp_client client_of(tuple client) except *:
    cdef fp_client out
    memset(&out, 0, sizeof(out))
    memcpy(out.address, <const char *>(<bytes>client[0]), 16)
    out.port, out.family, out.ingress = client[1], client[2], client[3]
    return out


cdef inline fp_endpoint endpoint_of(tuple address) except *:
    cdef fp_endpoint out
    memset(&out, 0, sizeof(out))
    memcpy(out.address, <const char *>(<bytes>address[0]), 16)
    out.port, out.family = address[1], address[2]
    return out
