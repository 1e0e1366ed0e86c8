# F1: transport addresses: the kernel's sockaddr to and from fp_client and fp_endpoint, equality, and which
# addresses are special. Ports are in host order; IPv4 is four bytes and twelve zeros with family 4, and a
# v4-mapped IPv6 address becomes the IPv4 address it is.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastpath.layout cimport fp_client, fp_endpoint
from fastpath.linux cimport AF_INET, AF_INET6, sockaddr_in, sockaddr_in6, socklen_t
from fastpath.siphash cimport siphash13


cdef inline bint twenty_bytes_equal(const void *a, const void *b) noexcept nogil:
    """Two loads and a half instead of a call: it runs for every datagram."""
    cdef uint64_t x[2]
    cdef uint64_t y[2]
    cdef uint32_t p, q
    memcpy(x, a, 16)
    memcpy(y, b, 16)
    memcpy(&p, <const uint8_t *>a + 16, 4)
    memcpy(&q, <const uint8_t *>b + 16, 4)
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (p ^ q)) == 0


cdef inline bint client_equal(const fp_client *a, const fp_client *b) noexcept nogil:
    """Address, port, ingress and family."""
    return twenty_bytes_equal(a, b)


cdef inline bint endpoint_equal(const fp_endpoint *a, const fp_endpoint *b) noexcept nogil:
    return twenty_bytes_equal(a, b)


cdef inline uint64_t client_hash(const uint8_t *seed, const fp_client *client) noexcept nogil:
    """Where a client's flow belongs in a table."""
    return siphash13(seed, <const uint8_t *>client, sizeof(fp_client))


cdef inline uint16_t network_order(uint16_t port) noexcept nogil:
    """To or from the order of the network, whatever the host's."""
    cdef uint8_t two[2]
    cdef uint16_t out
    two[0] = <uint8_t>(port >> 8)
    two[1] = <uint8_t>(port & 0xff)
    memcpy(&out, two, 2)
    return out


cdef inline bint endpoint_from_sockaddr(const void *name, socklen_t length, fp_endpoint *out) noexcept nogil:
    """False when it is neither a sockaddr_in nor a sockaddr_in6."""
    cdef sockaddr_in v4
    cdef sockaddr_in6 v6
    memset(out, 0, sizeof(fp_endpoint))
    if length < sizeof(sockaddr_in):
        return False
    memcpy(&v4, name, sizeof(v4))
    if v4.sin_family == AF_INET:
        memcpy(out.address, &v4.sin_addr, 4)
        out.port = network_order(v4.sin_port)
        out.family = 4
        return True
    if v4.sin_family != AF_INET6 or length < sizeof(sockaddr_in6):
        return False
    memcpy(&v6, name, sizeof(v6))
    out.port = network_order(v6.sin6_port)
    memcpy(out.address, &v6.sin6_addr, 16)
    out.family = 6
    if is_v4_mapped(out.address):
        memcpy(out.address, out.address + 12, 4)
        memset(out.address + 4, 0, 12)
        out.family = 4
    return True


cdef inline socklen_t endpoint_to_sockaddr(const fp_endpoint *endpoint, void *out) noexcept nogil:
    """Writes at most 28 bytes (sockaddr_in6) and gives the length."""
    cdef sockaddr_in v4
    cdef sockaddr_in6 v6
    if endpoint.family == 4:
        memset(&v4, 0, sizeof(v4))
        v4.sin_family = AF_INET
        v4.sin_port = network_order(endpoint.port)
        memcpy(&v4.sin_addr, endpoint.address, 4)
        memcpy(out, &v4, sizeof(v4))
        return sizeof(v4)
    memset(&v6, 0, sizeof(v6))
    v6.sin6_family = AF_INET6
    v6.sin6_port = network_order(endpoint.port)
    memcpy(&v6.sin6_addr, endpoint.address, 16)
    memcpy(out, &v6, sizeof(v6))
    return sizeof(v6)


cdef inline bint client_from_sockaddr(const void *name, socklen_t length, uint8_t ingress,
                                      fp_client *out) noexcept nogil:
    """The client at `name` as seen at `ingress`. False when it is no sockaddr_in and no sockaddr_in6."""
    cdef fp_endpoint endpoint
    cdef bint known = endpoint_from_sockaddr(name, length, &endpoint)
    memcpy(out.address, endpoint.address, 16)
    out.port = endpoint.port
    out.ingress = ingress
    out.family = endpoint.family
    return known


cdef inline socklen_t client_to_sockaddr(const fp_client *client, void *out) noexcept nogil:
    """Writes at most 28 bytes (sockaddr_in6) and gives the length."""
    cdef fp_endpoint endpoint
    memcpy(endpoint.address, client.address, 16)
    endpoint.port = client.port
    endpoint.family = client.family
    return endpoint_to_sockaddr(&endpoint, out)


cdef inline bint is_v4_mapped(const uint8_t *address) noexcept nogil:
    """::ffff:0:0/96 (RFC 4291 section 2.5.5.2)."""
    cdef uint64_t high
    memcpy(&high, address, 8)
    return high == 0 and address[8] == 0 and address[9] == 0 and address[10] == 0xff and address[11] == 0xff


cdef inline bint client_is_special(const fp_client *client) noexcept nogil:
    """Not an address of the public Internet's unicast: private, shared (carrier NAT), loopback, link-local,
    multicast, reserved. A flow to one needs allow_clients, lest the relay be a way into its own network."""
    cdef const uint8_t *a = <const uint8_t *>client       # the address comes first
    if client.family == 4:
        return (a[0] == 0 or a[0] == 10 or a[0] == 127 or a[0] >= 224       # 224/3: multicast, reserved
                or (a[0] == 100 and a[1] & 0xc0 == 64)  # 100.64.0.0/10 (RFC 6598)
                or (a[0] == 169 and a[1] == 254)  # link-local (RFC 3927)
                or (a[0] == 172 and a[1] & 0xf0 == 16)  # 172.16.0.0/12 (RFC 1918)
                or (a[0] == 192 and a[1] == 168))  # 192.168.0.0/16
    # IANA gives out global unicast from 2000::/3 only (RFC 4291 section 2.4)
    return a[0] & 0xe0 != 0x20


cdef inline bint network_holds(const uint8_t *network, uint8_t family, uint8_t prefix,
                               const fp_client *client) noexcept nogil:
    """Does the CIDR network (16 bytes, IPv4 in the first four) hold the client's address?"""
    cdef size_t whole = prefix >> 3
    cdef uint8_t mask
    if family != client.family or prefix > (32 if family == 4 else 128):
        return False
    if memcmp(network, client.address, whole) != 0:
        return False
    if prefix & 7 == 0:
        return True
    mask = <uint8_t>(0xff00 >> (prefix & 7))
    return (network[whole] ^ client.address[whole]) & mask == 0
