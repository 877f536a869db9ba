"""IP addresses: parsing, grouping by network, and whether they are on the public internet."""

from __future__ import annotations

import ipaddress

# Our own list, from IANA's registries of special-purpose addresses, without the exceptions inside a
# range. The standard library's list changes between Python versions and lets some of these through.
# https://www.iana.org/assignments/iana-ipv4-special-registry/
_SPECIAL_IPV4 = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # Azure's platform services, at an address that looks public.
        "168.63.129.16/32",
    )
]  # fmt: skip

# The only IPv6 range in use on the internet. Everything else is, among others, loopback, private,
# link-local, multicast, or a form that embeds an IPv4 address (NAT64, SIIT).
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# https://www.iana.org/assignments/iana-ipv6-special-registry/
_SPECIAL_IPV6 = [
    ipaddress.ip_network(network)
    for network in (
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
]  # fmt: skip


def is_public_address(text: str) -> bool:
    """Return whether the public internet routes to this IP address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if address.version == 4:
        return not any(address in network for network in _SPECIAL_IPV4)
    return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)


def parse_address(text: str) -> str:
    """Return an IP address in its canonical spelling, or '' if the text is not one.

    Accepts the ports and brackets that proxies add: `192.0.2.1:443`, `[2001:db8::1]:443`.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def counted_as(address: str) -> str:
    """Return what a limit counts this address as: an IPv6 address as its /64 (one household)."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False).network_address)
