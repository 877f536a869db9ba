"""Which IP addresses are out on the public internet."""

from __future__ import annotations

import ipaddress

# IPv6 addresses that stand for IPv4 ones (NAT64, 6to4, SIIT, IPv4-compatible) or are local under
# an old name: with the right router, a way round every check of the IPv4 address itself.
_TRANSLATED = [
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "::ffff:0:0:0/96",
        "::/96",
        "fec0::/10",
    )
]


def is_public_address(text: str) -> bool:
    """Tell whether an IP address is reachable on the public internet under its own name."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is None and any(address in network for network in _TRANSLATED):
        return False
    return (mapped or address).is_global and not (mapped or address).is_multicast
