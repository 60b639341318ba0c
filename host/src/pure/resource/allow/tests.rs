use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn rules(texts: &[(&str, bool)]) -> Vec<Rule> {
    texts.iter().map(|(text, private)| Rule::parse(text, *private).unwrap()).collect()
}

fn bank() -> Vec<Rule> {
    rules(&[
        ("http://api.example.com/v1/", false),
        ("http://api.example.com:8080/status", false),
        ("http://*.shop.example/", false),
        ("http://inside.example/", true),
        ("http://10.0.0.7:9000/", false),
        ("http://[2001:4860::8888]/", false),
    ])
}

/// URLs, and how far the rules of a bank let them go; `Err` is part of what is wrong with one.
const URLS: &[(&str, Result<Option<Reach>, &str>)] = &[
    ("http://api.example.com/v1/", Ok(Some(Reach::Public))),
    ("http://api.example.com/v1/rates?of=EUR&b[]=1", Ok(Some(Reach::Public))),
    ("HTTP://API.Example.COM./v1/x", Ok(Some(Reach::Public))),
    ("http://api.example.com:80/v1/x", Ok(Some(Reach::Public))),
    ("http://api.example.com:8080/status", Ok(Some(Reach::Public))),
    ("http://api.example.com:8080/status/deep", Ok(Some(Reach::Public))),
    ("http://api.example.com:8080/status?x=/../y", Ok(Some(Reach::Public))),
    ("http://a.shop.example", Ok(Some(Reach::Public))),
    ("http://a.b.shop.example/any%2Fthing", Ok(Some(Reach::Public))),
    ("http://inside.example/", Ok(Some(Reach::Private))),
    ("http://10.0.0.7:9000/x", Ok(Some(Reach::Named))),
    ("http://[2001:4860:0:0::8888]/", Ok(Some(Reach::Named))),
    // Another path, port, host.
    ("http://api.example.com/", Ok(None)),
    ("http://api.example.com/v1", Ok(None)),
    ("http://api.example.com/v10/x", Ok(None)),
    ("http://api.example.com/V1/x", Ok(None)),
    ("http://api.example.com/?/v1/", Ok(None)),
    ("http://api.example.com//v1/", Ok(None)),
    ("http://api.example.com/%76%31/", Ok(None)),
    ("http://api.example.com:8080/statusx", Ok(None)),
    ("http://api.example.com:8080/v1/", Ok(None)),
    ("http://api.example.com:81/v1/", Ok(None)),
    ("http://shop.example/", Ok(None)),
    ("http://.shop.example/", Err("no name and no address")),
    ("http://badshop.example/", Ok(None)),
    ("http://shop.example.evil.com/", Ok(None)),
    ("http://api.example.com.evil.com/v1/", Ok(None)),
    ("http://10.0.0.8:9000/", Ok(None)),
    ("http://10.0.0.7/", Ok(None)),
    ("http://[::ffff:10.0.0.7]:9000/", Ok(None)),
    ("http://[::ffff:a00:7]:9000/", Ok(None)),
    ("http://127.0.0.1/", Ok(None)),
    ("http://169.254.169.254/latest/meta-data/", Ok(None)),
    ("http://[::1]/", Ok(None)),
    ("http://localhost/", Ok(None)),
    // Out of the path by what a server may make of it.
    ("http://api.example.com/v1/../admin", Err("`.` or `..`")),
    ("http://api.example.com/v1/./x", Err("`.` or `..`")),
    ("http://api.example.com/v1/..", Err("`.` or `..`")),
    ("http://api.example.com/v1/%2e%2E/admin", Err("`.` or `..`")),
    ("http://api.example.com/v1/.%2e/admin", Err("`.` or `..`")),
    ("http://api.example.com/v1/..;/admin", Err("`.` or `..`")),
    ("http://api.example.com/v1/..;x=1/admin", Err("`.` or `..`")),
    ("http://a.shop.example/../x", Err("`.` or `..`")),
    ("http://api.example.com/v1/..%2fadmin", Ok(None)),
    ("http://api.example.com/v1/..%5Cadmin", Ok(None)),
    ("http://api.example.com/v1/%252e%252e/admin", Ok(None)),
    ("http://api.example.com/v1/x%00", Ok(None)),
    ("http://api.example.com/v1/..\\admin", Err("must be encoded")),
    ("http://api.example.com/v1/%zz", Err("two hexadecimal digits")),
    ("http://api.example.com/v1/%2", Err("two hexadecimal digits")),
    // Hosts that are read in more than one way.
    ("http://api.example.com@evil.com/v1/", Err("no user")),
    ("http://evil.com@api.example.com/v1/", Err("no user")),
    ("http://user:word@api.example.com/v1/", Err("no user")),
    ("http://api.example.com#@evil.com/v1/", Err("must be encoded")),
    ("http://evil.com\\@api.example.com/v1/", Err("must be encoded")),
    ("http://api.example.com\\.evil.com/v1/", Err("must be encoded")),
    ("http:/\\api.example.com/v1/", Err("must be encoded")),
    ("http://api.example.com:80:90/v1/", Err("port")),
    ("http://api.example.com:/v1/", Err("port")),
    ("http://api.example.com:0/v1/", Err("port")),
    ("http://api.example.com:65616/v1/", Err("port")),
    ("http://api.example.com:+80/v1/", Err("port")),
    ("http://api%2eexample.com/v1/", Err("no name and no address")),
    ("http://api..example.com/v1/", Err("no name and no address")),
    ("http://api.example.com../v1/", Err("no name and no address")),
    ("http://*.shop.example/", Err("no name and no address")),
    ("http://a,b.shop.example/", Err("no name and no address")),
    ("http://api.ex\u{e4}mple.com/v1/", Err("must be encoded")),
    ("http://api\u{ff0e}example.com/v1/", Err("must be encoded")),
    ("http://127.1/", Err("four decimal numbers")),
    ("http://2130706433/", Err("four decimal numbers")),
    ("http://0x7f000001/", Err("four decimal numbers")),
    ("http://0x7f.0.0.1/", Err("four decimal numbers")),
    ("http://0177.0.0.1/", Err("four decimal numbers")),
    ("http://010.0.0.7:9000/", Err("four decimal numbers")),
    ("http://10.0.0.7.0x/", Err("four decimal numbers")),
    ("http://256.0.0.1/", Err("four decimal numbers")),
    ("http://[fe80::1%25eth0]/", Err("IPv6")),
    ("http://[::1/", Err("IPv6")),
    ("http://[10.0.0.7]:9000/", Err("IPv6")),
    ("http://[::1]x/", Err("port")),
    ("http://::1/", Err("names no host")),
    // Other things.
    ("https://api.example.com/v1/", Err("TLS")),
    ("HTTPS://api.example.com/v1/", Err("TLS")),
    ("ftp://api.example.com/v1/", Err("begin with http://")),
    ("file:///etc/passwd", Err("begin with http://")),
    ("gopher://127.0.0.1:6379/_INFO", Err("begin with http://")),
    ("//api.example.com/v1/", Err("begin with http://")),
    ("api.example.com/v1/", Err("begin with http://")),
    ("http:api.example.com/v1/", Err("begin with http://")),
    (" http://api.example.com/v1/", Err("must be encoded")),
    ("http://api.example.com/v1/ x", Err("must be encoded")),
    ("http://api.example.com/v1/\r\nHost: evil.com", Err("must be encoded")),
    ("http://api.example.com/v1/\0", Err("must be encoded")),
    ("http://", Err("names no host")),
    ("http:///v1/", Err("names no host")),
    ("http://./v1/", Err("names no host")),
    ("http://?x", Err("names no host")),
    ("", Err("begin with http://")),
];

#[test]
fn a_url_goes_where_a_rule_lets_it_and_nowhere_else() {
    let rules = bank();
    for (text, expected) in URLS {
        let read = Url::parse(text).map(|url| reach(&rules, &url));
        match (read, expected) {
            (Ok(reach), Ok(expected)) => assert_eq!(reach, *expected, "{text}"),
            (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
            (read, expected) => panic!("{text}: {read:?}, not {expected:?}"),
        }
    }
}

#[test]
fn of_two_rules_the_wider_one_decides() {
    let both = rules(&[("http://h.example/", false), ("http://h.example/in/", true)]);
    let reach = |text: &str| reach(&both, &Url::parse(text).unwrap());
    assert_eq!(reach("http://h.example/in/x"), Some(Reach::Private));
    assert_eq!(reach("http://h.example/out"), Some(Reach::Public));
}

#[test]
fn a_rule_that_makes_no_sense_is_refused() {
    for (text, part) in [
        ("http://*/", "no name and no address"),
        ("http://a.*.example/", "no name and no address"),
        ("http://*.10.0.0.7/", "after `*.` stands a name"),
        ("http://*.", "names no host"),
        ("http://0.0.0.0/", "no server has this address"),
        ("http://224.0.0.1/", "no server has this address"),
        ("http://[::]/", "no server has this address"),
        ("http://[::ffff:127.0.0.1]/", "no server has this address"),
        ("http://h/?x=1", "a rule has no query"),
        ("http://u:p@h/", "no user and no password"),
        ("https://h/", "TLS"),
        ("http://h/a/../b", "`.` or `..`"),
    ] {
        let message = Rule::parse(text, true).unwrap_err();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn a_rule_and_a_url_are_shown_without_their_paths() {
    let shown: Vec<String> = bank().iter().map(Rule::shown).collect();
    let expected = ["api.example.com", "api.example.com:8080", "*.shop.example"];
    assert_eq!(shown[..3], expected);
    assert_eq!(shown[5], "[2001:4860::8888]");
    let url = Url::parse("http://H.example?q").unwrap();
    assert_eq!((url.authority(), url.target()), ("h.example".to_owned(), "/?q"));
}

/// Addresses, each with its class: the first and the last of each block, and those around it.
const ADDRESSES: &[(Class, &[&str])] = &[
    (
        Class::Public,
        &[
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7::1",
            "2001:db9::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
            "3fff:1000::1",
            "64:ff9b::101:101",
        ],
    ),
    (Class::Loopback, &["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1", "64:ff9b::7f00:1"]),
    (
        Class::Private,
        &[
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            "fc00::",
            "fdff:ffff::1",
            "64:ff9b::a00:1",
        ],
    ),
    (
        Class::Link,
        &[
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
        ],
    ),
    (Class::Multicast, &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1", "ffff::1"]),
    (
        Class::Reserved,
        &[
            "0.0.0.0",
            "0.255.255.255",
            "192.0.0.0",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "::ffff:169.254.169.254",
            "64:ff9b:1::1",
            "64:ff9b::1:0:0",
            "100::1",
            "1fff::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fbff::1",
            "fe00::1",
            "fec0::1",
        ],
    ),
];

#[test]
fn an_address_has_its_class() {
    for (class, addresses) in ADDRESSES {
        for text in *addresses {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Class::of(address), *class, "{text}");
            let reaches = [Reach::Public, Reach::Private, Reach::Named];
            let may = reaches.map(|reach| reach.may_dial(address));
            let expected = match class {
                Class::Public => [true; 3],
                Class::Loopback | Class::Private => [false, true, true],
                Class::Link => [false, false, true],
                Class::Multicast | Class::Reserved => [false; 3],
            };
            assert_eq!(may, expected, "{text}");
        }
    }
}

#[test]
fn one_address_that_may_not_be_dialled_is_enough() {
    let addresses = ["1.1.1.1", "10.0.0.1"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(Reach::Public.check(&addresses[..1]), Ok(()));
    let message = Reach::Public.check(&addresses).unwrap_err();
    assert_eq!(message, "the name leads to a private address");
    assert_eq!(Reach::Private.check(&addresses), Ok(()));
}

/// What the standard library knows of an address, which is less.
fn is_odd(address: IpAddr) -> bool {
    let odd_v4 = |v4: Ipv4Addr| {
        v4.is_loopback()
            || v4.is_private()
            || v4.is_link_local()
            || v4.is_unspecified()
            || v4.is_broadcast()
            || v4.is_multicast()
            || v4.is_documentation()
    };
    match address {
        IpAddr::V4(v4) => odd_v4(v4),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.to_ipv4().is_some()
        }
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    // Most bits alike, so that the blocks at the ends are hit.
    let near = (any::<u32>(), 0_u32..128).prop_map(|(bits, shift)| {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits).rotate_left(shift)))
    });
    let first = proptest::sample::select(vec![0_u8, 10, 100, 127, 169, 172, 192, 198, 203, 224]);
    let blocks =
        (first, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    prop_oneof![v4, v6, near, blocks]
}

proptest! {
    #[test]
    fn no_address_of_ones_own_passes_without_private(address in any_address()) {
        if is_odd(address) {
            prop_assert!(!Reach::Public.may_dial(address));
            prop_assert!(Reach::Public.check(&[address]).is_err());
        }
        // Who may go further may go as far.
        if Reach::Public.may_dial(address) {
            prop_assert!(Reach::Private.may_dial(address));
        }
        if Reach::Private.may_dial(address) {
            prop_assert!(Reach::Named.may_dial(address));
        }
    }

    #[test]
    fn a_url_that_is_read_is_read_the_same_way_again(
        text in "http://[a-z0-9.:%/?@\\[\\];-]{0,40}",
    ) {
        if let Ok(url) = Url::parse(&text) {
            let again = Url::parse(&format!("http://{}{}", url.authority(), url.target()));
            prop_assert_eq!(Ok(url), again);
        }
    }
}
