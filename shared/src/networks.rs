//! Which addresses a destination may have: public ones, and those of networks that the configuration allows. The worker's guard asks
//! here when it connects, and `posthouse check` before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 addresses that are not public (<https://www.iana.org/assignments/iana-ipv4-special-registry>).
const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    // This network; the unspecified address is in it.
    v4(0, 0, 0, 0, 8),
    // Private.
    v4(10, 0, 0, 0, 8),
    // Shared by carriers, and by AWS within.
    v4(100, 64, 0, 0, 10),
    // Loopback; Lambda's runtime is there.
    v4(127, 0, 0, 0, 8),
    // Link-local; metadata and credentials are there.
    v4(169, 254, 0, 0, 16),
    // Private.
    v4(172, 16, 0, 0, 12),
    // Protocol assignments.
    v4(192, 0, 0, 0, 24),
    // Documentation.
    v4(192, 0, 2, 0, 24),
    // 6to4 relays.
    v4(192, 88, 99, 0, 24),
    // Private.
    v4(192, 168, 0, 0, 16),
    // Benchmarking.
    v4(198, 18, 0, 0, 15),
    // Documentation.
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Multicast.
    v4(224, 0, 0, 0, 4),
    // Reserved; broadcast is in it.
    v4(240, 0, 0, 0, 4),
];
/// All IPv6 addresses that are assigned to be public; what lies outside, such as `::1`, `fc00::/7` and `fe80::/10`, is not.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);
/// IPv6 addresses among them that are not (<https://www.iana.org/assignments/iana-ipv6-special-registry>).
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    // Protocol assignments: Teredo, benchmarking, ORCHID.
    v6(0x2001, 0, 0, 23),
    // Documentation.
    v6(0x2001, 0xdb8, 0, 32),
    // 6to4: a relay of somebody's takes it to the IPv4 address within.
    v6(0x2002, 0, 0, 16),
    // Documentation.
    v6(0x3fff, 0, 0, 20),
];
/// NAT64: a gateway takes it to the IPv4 address in its last 32 bits. In a VPC without IPv4 every destination looks like this.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Whether an address is reached: it is public, or one of these networks has it.
pub fn is_reached(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = come_out(address);
    is_public(address) || allowed.iter().any(|network| network.contains(&address))
}

/// The address that the host of a URL is, if it is one and no name. The URL's parser has brought decimal, octal and hexadecimal spellings
/// into their one form.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The address where a packet to this one comes out, if it is translated on the way.
pub fn come_out(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        canonical => canonical,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address)),
    }
}
