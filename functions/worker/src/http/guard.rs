//! Which addresses are reached: public ones, and those of networks that the configuration allows.
//!
//! Who may write a destination's URL, or its DNS, must not reach what only we can: Lambda's own interfaces, metadata services, the
//! inside of a VPC. So the address that is connected to is looked at, after the name is resolved, and nothing is resolved twice.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use shared::networks;

/// An address that is not reached. It names nothing but the host, which is the configuration's, and the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotPublic {
    host: String,
    address: IpAddr,
}

impl fmt::Display for NotPublic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        let network = IpNet::from(networks::come_out(*address));
        write!(
            formatter,
            "{host} resolves to an address that is not public, {address}; if that is meant, say `allow_networks = [\"{network}\"]`"
        )
    }
}

impl std::error::Error for NotPublic {}

/// What is reached.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    allowed: Arc<[IpNet]>,
}

impl Guard {
    pub(super) fn new(allow_networks: &[IpNet]) -> Self {
        Self { allowed: allow_networks.into() }
    }

    /// Addresses in URLs are not resolved, so they are looked at here. The URL's parser has brought decimal, octal and hexadecimal
    /// spellings into their one form.
    pub(super) fn check_literal(&self, url: &Url) -> Result<(), NotPublic> {
        let host = url.host_str().unwrap_or_default();
        match networks::literal(host) {
            Some(address) if !self.allows(address) => Err(NotPublic { host: host.to_owned(), address }),
            _ => Ok(()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        networks::is_reached(address, &self.allowed)
    }

    /// Those that may be reached; an error if there are none.
    fn select(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
        let (reached, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| self.allows(address.ip()));
        match refused.first() {
            Some(refused) if reached.is_empty() => Err(NotPublic { host: host.to_owned(), address: refused.ip() }),
            _ => Ok(reached),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            // The client puts its own port in the place of 0.
            let found = tokio::net::lookup_host((host, 0)).await?.collect();
            let addresses = guard.select(host, found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(networks: &[&str]) -> Guard {
        Guard::new(&networks.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_range_ends_where_it_does() {
        // The last before, the first, the last within, the first after; without a public neighbour, nothing.
        for range in [
            ["", "0.0.0.0", "0.255.255.255", "1.0.0.0"],
            ["9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"],
            ["100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"],
            ["126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"],
            ["169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"],
            ["172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"],
            ["191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"],
            ["192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"],
            ["192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"],
            ["192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"],
            ["198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"],
            ["198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"],
            ["203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"],
            ["223.255.255.255", "224.0.0.0", "239.255.255.255", ""],
            ["", "240.0.0.0", "255.255.255.255", ""],
            ["", "::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
            ["", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"],
            ["2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"],
            ["2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"],
            ["3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"],
            ["3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ] {
            let guard = guard(&[]);
            let [before, first, last, after] = range;
            for public in [before, after].into_iter().filter(|text| !text.is_empty()) {
                assert!(guard.allows(address(public)), "{public} is public");
            }
            for refused in [first, last] {
                assert!(!guard.allows(address(refused)), "{refused} is not public");
            }
        }
    }

    #[test]
    fn well_known_places_inside_are_refused() {
        for inside in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.100.1",
            "fd00:ec2::254",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "100::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2002:808:808::1",
            "64:ff9b:1::808:808",
            "::8.8.8.8",
            "::127.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!guard(&[]).allows(address(inside)), "{inside}");
        }
    }

    #[test]
    fn what_is_translated_is_judged_by_where_it_comes_out() {
        for (written, public) in [
            ("::ffff:8.8.8.8", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
        ] {
            assert_eq!(guard(&[]).allows(address(written)), public, "{written}");
        }
        let allowing = guard(&["127.0.0.0/8"]);
        assert!(allowing.allows(address("::ffff:127.0.0.1")));
        assert!(allowing.allows(address("64:ff9b::127.0.0.1")));
    }

    #[test]
    fn a_network_is_allowed_up_to_its_ends() {
        let guard = guard(&["10.1.0.0/16", "fd12::/16"]);
        for (written, allowed) in [
            ("10.0.255.255", false),
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("fd11:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("fd12::", true),
            ("fd12:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("fd13::", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(guard.allows(address(written)), allowed, "{written}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_known_in_every_spelling() {
        let check = |url: &str| guard(&[]).check_literal(&Url::parse(url).unwrap());
        for inside in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://①②⑦.0.0.1/",
            "https://127.0.0.1./",
            "https://[::1]:8443/",
            "https://[::ffff:127.0.0.1]/",
            "https://[0:0:0:0:0:ffff:a9fe:a9fe]/",
            "https://0/",
        ] {
            assert!(check(inside).is_err(), "{inside}");
        }
        for outside in ["https://8.8.8.8/", "https://[2606:4700::1111]/", "https://example.com/"] {
            assert_eq!(check(outside), Ok(()), "{outside}");
        }
        let refused = check("https://0x7f.1/").unwrap_err().to_string();
        assert!(refused.contains("127.0.0.1 resolves to an address that is not public"), "{refused}");
        assert!(refused.contains("`allow_networks = [\"127.0.0.1/32\"]`"), "{refused}");
        let mapped = check("https://[::ffff:127.0.0.1]/").unwrap_err().to_string();
        assert!(mapped.contains("`allow_networks = [\"127.0.0.1/32\"]`"), "what would allow it: {mapped}");
    }

    #[test]
    fn of_several_addresses_only_those_are_reached_that_may_be() {
        let sockets = |texts: &[&str]| texts.iter().map(|text| SocketAddr::new(address(text), 0)).collect::<Vec<_>>();
        let guard = guard(&[]);
        assert_eq!(guard.select("h", sockets(&["10.0.0.1", "8.8.8.8"])), Ok(sockets(&["8.8.8.8"])));
        let refused = guard.select("h", sockets(&["10.0.0.1", "::1"])).unwrap_err();
        assert_eq!(refused, NotPublic { host: "h".to_owned(), address: address("10.0.0.1") });
        assert_eq!(guard.select("h", Vec::new()), Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let resolve = async |guard: Guard| guard.resolve("localhost".parse().unwrap()).await.map(Iterator::count);
        let refused = resolve(guard(&[])).await.unwrap_err();
        assert!(refused.to_string().starts_with("localhost resolves to an address that is not public"), "{refused}");
        assert!(resolve(guard(&["127.0.0.0/8", "::1/128"])).await.unwrap() > 0);
    }
}
