"""Proxies that connect to many sites on behalf of their visitors: CDNs.

Behind one that is not trusted, a load balancer's or a regional web ACL's log shows the proxy as the client of every
request. Blocking it would refuse every client behind it, so a proxy over a rule's limit is not taken for an offender.
The lists are small and incomplete: wide ranges, from copies of what their owners publish (CloudFront's of 10 December
2022, with those of a later copy; the others without a date). An address in none of them is blocked like any other.
"""

from functools import cache
from ipaddress import ip_network

from chalicelib.core.addresses import NetworkSet

RANGES = {
    # AWS's ip-ranges.json, service CLOUDFRONT: ranges of /20 or wider, which belong to no EC2 customer.
    "CloudFront": (
        "3.160.0.0/13 3.168.0.0/14 3.172.0.0/17 3.173.0.0/16 3.174.0.0/15 13.32.0.0/15 13.35.0.0/16 13.224.0.0/14 "
        "13.249.0.0/16 15.158.0.0/16 18.64.0.0/14 18.68.0.0/16 18.154.0.0/15 18.160.0.0/15 18.164.0.0/15 18.172.0.0/15 "
        "18.238.0.0/15 18.244.0.0/15 52.46.0.0/18 52.82.128.0/19 52.84.0.0/15 52.124.128.0/17 52.222.128.0/17 "
        "54.182.0.0/16 54.192.0.0/16 54.230.0.0/17 54.230.128.0/18 54.230.208.0/20 54.230.224.0/19 54.239.128.0/18 "
        "54.239.192.0/19 54.240.128.0/18 64.252.64.0/18 64.252.128.0/18 65.8.0.0/16 65.9.0.0/17 65.9.128.0/18 "
        "70.132.0.0/18 71.152.0.0/17 99.84.0.0/16 99.86.0.0/16 108.138.0.0/15 108.156.0.0/14 130.176.0.0/17 "
        "130.176.128.0/18 130.176.192.0/19 130.176.224.0/20 143.204.0.0/16 144.220.0.0/16 204.246.176.0/20 "
        "205.251.208.0/20 216.137.32.0/19 2600:9000::/28"
    ),
    # www.cloudflare.com/ips without 104.24.0.0/14, from which users of its VPN connect.
    "Cloudflare": (
        "103.21.244.0/22 103.22.200.0/22 103.31.4.0/22 104.16.0.0/13 108.162.192.0/18 131.0.72.0/22 141.101.64.0/18 "
        "162.158.0.0/15 172.64.0.0/13 173.245.48.0/20 188.114.96.0/20 190.93.240.0/20 197.234.240.0/22 198.41.128.0/17 "
        "2400:cb00::/32 2405:8100::/32 2405:b500::/32 2606:4700::/32 2803:f800::/32 2a06:98c0::/29 2c0f:f248::/32"
    ),
    # api.fastly.com/public-ip-list: ranges of /18 or wider.
    "Fastly": (
        "140.248.64.0/18 140.248.128.0/17 146.75.0.0/17 151.101.0.0/16 157.52.64.0/18 167.82.0.0/17 172.111.64.0/18 "
        "199.232.0.0/16 2a04:4e40::/32 2a04:4e42::/32"
    ),
}
"""Networks of each CDN, among them those from which it connects to origins, separated by blanks."""


@cache
def proxies() -> NetworkSet:
    """Returns the networks of all CDNs."""
    return NetworkSet(ip_network(text) for ranges in RANGES.values() for text in ranges.split())
