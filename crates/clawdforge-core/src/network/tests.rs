//! Every special range and every disguise, and what rules make of names.

use super::*;

fn is_closed(text: &str) -> bool {
    closed(text.parse().unwrap()).is_some()
}

#[test]
fn every_range_that_is_not_public_is_closed_from_its_first_address_to_its_last() {
    for [first, last] in [
        ["0.0.0.0", "0.255.255.255"],
        ["10.0.0.0", "10.255.255.255"],
        ["100.64.0.0", "100.127.255.255"],
        ["127.0.0.0", "127.255.255.255"],
        ["168.63.129.16", "168.63.129.16"],
        ["169.254.0.0", "169.254.255.255"],
        ["169.254.169.254", "169.254.170.2"],
        ["172.16.0.0", "172.31.255.255"],
        ["192.0.0.0", "192.0.0.255"],
        ["192.0.2.0", "192.0.2.255"],
        ["192.88.99.0", "192.88.99.255"],
        ["192.168.0.0", "192.168.255.255"],
        ["198.18.0.0", "198.19.255.255"],
        ["198.51.100.0", "198.51.100.255"],
        ["203.0.113.0", "203.0.113.255"],
        ["224.0.0.0", "239.255.255.255"],
        ["240.0.0.0", "255.255.255.255"],
        ["::", "::1"],
        ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ["fd00:ec2::254", "fd00:ec2::254"],
        ["fe80::", "febf:ffff::1"],
        ["fec0::", "feff:ffff::1"],
        ["ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ["100::", "1fff::1"],
        ["2001::", "2001:1ff:ffff::1"],
        ["2001:db8::", "2001:db8:ffff::1"],
        ["2002::", "2002:ffff:ffff::1"],
        ["3fff::", "3fff:fff:ffff::1"],
        ["4000::", "5f00::1"],
        ["64:ff9b:1::", "64:ff9b:1:ffff::1"],
    ] {
        assert!(is_closed(first) && is_closed(last), "{first} to {last}");
    }
}

#[test]
fn what_lies_beside_a_special_range_is_public() {
    for public in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "8.8.8.8",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700::1",
        "3ffe::1",
    ] {
        assert!(!is_closed(public), "{public}");
    }
}

#[test]
fn an_ipv4_address_in_disguise_is_judged_as_what_it_is() {
    for (disguised, expected) in [
        ("::ffff:127.0.0.1", true),
        ("::ffff:10.1.2.3", true),
        ("::ffff:169.254.169.254", true),
        ("::ffff:8.8.8.8", false),
        ("64:ff9b::127.0.0.1", true),
        ("64:ff9b::192.168.1.1", true),
        ("64:ff9b::8.8.8.8", false),
        // The forms that nobody uses any more lead nowhere.
        ("::127.0.0.1", true),
        ("::8.8.8.8", true),
        ("::ffff:0:8.8.8.8", true),
        ("2002:7f00:1::", true),
    ] {
        assert_eq!(is_closed(disguised), expected, "{disguised}");
    }
}

#[test]
fn forgotten_forms_of_addresses_are_neither_addresses_nor_names() {
    for text in [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "1.2.3.4.5",
        "256.0.0.1",
        "example.0x7f",
        "example.1",
        "0X7F.1",
        "::1",
        "[127.0.0.1]",
        "[::1",
        "[fe80::1%eth0]",
        "",
        ".",
        "a..b",
        "-\0",
        "a b",
        "ex ample.com",
        "user@host",
        "host/path",
        "ä.example",
        "a:b",
    ] {
        assert_eq!(text.parse::<Host>(), Err(BadHost), "{text:?}");
    }
    let long = format!("{}.com", "a".repeat(64));
    assert_eq!(long.parse::<Host>(), Err(BadHost));
    assert_eq!(vec!["abcdefg"; 32].join(".").parse::<Host>(), Err(BadHost), "longer than a name may be");
}

#[test]
fn a_name_is_the_same_in_capitals_and_with_a_dot_at_its_end() {
    assert_eq!("API.Example.COM.".parse(), Ok(Host::Name("api.example.com".to_owned())));
    assert_eq!("[::1]".parse(), Ok(Host::Address("::1".parse().unwrap())));
    assert_eq!("1e100.net".parse(), Ok(Host::Name("1e100.net".to_owned())));
}

#[test]
fn an_endpoint_reads_back_as_it_was_written_and_needs_a_port() {
    for text in ["example.com:443", "*.example.com:443", "8.8.8.8:53", "[2606:4700::1]:443"] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
    }
    for text in ["example.com", "example.com:", "example.com:0", "example.com:+1", "example.com:65536", "x:1:y"] {
        assert!(matches!(text.parse::<Endpoint>(), Err(BadEndpoint::NoPort(_))), "{text}");
    }
    for text in [":443", "*.:443", "*:443", "a.*.b:443", "*.127.0.0.1:443", "2606::1:443", "https://a.b:443"] {
        assert!(matches!(text.parse::<Endpoint>(), Err(BadEndpoint::NoHost(_))), "{text}");
    }
}

fn reach(agent: NetworkRule, app: Option<NetworkRule>, always: &[&str]) -> Reach {
    Reach { agent, app, always: always.iter().map(|text| text.parse().unwrap()).collect() }
}

fn judge(reach: &Reach, host: &str, port: u16) -> Result<Permit, Refused> {
    reach.judge(&host.parse().unwrap(), port)
}

#[test]
fn a_list_is_of_names_with_their_ports_and_a_star_is_all_names_below() {
    let only = NetworkRule::only(&["example.com:443", "*.example.org:443", "8.8.8.8:53"]).unwrap();
    let reach = reach(only, None, &[]);
    for (host, port) in [("Example.com.", 443), ("a.example.org", 443), ("a.b.example.org", 443), ("8.8.8.8", 53)] {
        assert_eq!(judge(&reach, host, port), Ok(Permit::Public), "{host}");
    }
    for (host, port) in [
        ("example.com", 80),
        ("sub.example.com", 443),
        ("example.org", 443),
        ("evilexample.org", 443),
        ("8.8.8.8", 443),
        ("8.8.4.4", 53),
        ("example.com.evil.net", 443),
    ] {
        assert_eq!(judge(&reach, host, port), Err(Refused::ByAgent), "{host}");
    }
}

#[test]
fn the_stricter_of_both_rules_holds() {
    let list = |entries: &[&str]| NetworkRule::only(entries).unwrap();
    let (ours, both) = (list(&["a.example:1", "b.example:1"]), list(&["b.example:1", "c.example:1"]));
    let reach_of = |agent: &NetworkRule, app: &NetworkRule| reach(agent.clone(), Some(app.clone()), &[]);
    let open = NetworkRule::Open;
    assert_eq!(judge(&reach_of(&ours, &both), "b.example", 1), Ok(Permit::Public));
    assert_eq!(judge(&reach_of(&ours, &both), "a.example", 1), Err(Refused::ByApp));
    assert_eq!(judge(&reach_of(&ours, &both), "c.example", 1), Err(Refused::ByAgent));
    assert_eq!(judge(&reach_of(&open, &NetworkRule::None), "a.example", 1), Err(Refused::ByApp));
    assert_eq!(judge(&reach_of(&NetworkRule::None, &open), "a.example", 1), Err(Refused::ByAgent));
    // An app cannot widen, and a rule of its own filters an agent that has none.
    assert_eq!(judge(&reach_of(&NetworkRule::Unfiltered, &open), "a.example", 1), Ok(Permit::Public));
    assert!(reach_of(&NetworkRule::Unfiltered, &open).is_filtered());
    let free = reach(NetworkRule::Unfiltered, None, &[]);
    assert_eq!(judge(&free, "127.0.0.1", 1), Ok(Permit::Anywhere));
    assert!(!free.is_filtered());
}

#[test]
fn what_the_operator_names_is_reached_under_every_rule_and_wherever_it_is() {
    let reach = reach(NetworkRule::None, Some(NetworkRule::None), &["127.0.0.1:9000", "model.lan:443", "localhost:7"]);
    assert_eq!(judge(&reach, "127.0.0.1", 9000), Ok(Permit::Anywhere));
    assert_eq!(judge(&reach, "[::ffff:127.0.0.1]", 9000), Ok(Permit::Anywhere), "the same address");
    assert_eq!(judge(&reach, "model.lan", 443), Ok(Permit::Anywhere));
    assert_eq!(judge(&reach, "127.0.0.1", 9001), Err(Refused::ByAgent));
    assert_eq!(judge(&reach, "127.0.0.2", 9000), Err(Refused::ByAgent));
    assert_eq!(reach.loopback_ports().collect::<Vec<_>>(), [9000, 7]);
    let always = |address: &str, port| reach.always_on_loopback(address.parse().unwrap(), port);
    assert!(always("127.0.0.1", 9000) && always("127.0.0.1", 7) && always("::1", 7));
    assert!(!always("::1", 9000) && !always("127.0.0.1", 443) && !always("192.0.2.1", 7));
}

#[test]
fn a_rule_reads_back_from_what_is_stored_of_it() {
    let list = NetworkRule::only(&["example.com:443", "*.example.org:80"]).unwrap();
    for rule in [NetworkRule::Unfiltered, NetworkRule::Open, NetworkRule::None, NetworkRule::Only(Vec::new()), list] {
        assert_eq!(NetworkRule::from_json(&rule.to_json()), Ok(rule));
    }
    for bad in
        [serde_json::json!(null), serde_json::json!(["a:1", 2]), serde_json::json!("shut"), serde_json::json!({})]
    {
        assert!(NetworkRule::from_json(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_list_opens_no_address_that_is_closed() {
    for (entry, what) in [("10.0.0.5:443", "a private address"), ("[::1]:80", "a loopback address")] {
        let error = NetworkRule::only(&[entry]).unwrap_err();
        assert_eq!(error, BadRule::Closed { entry: entry.to_owned(), what });
        assert!(error.to_string().contains("network_always"), "{error}");
    }
    assert_eq!(NetworkRule::only(&vec!["a.example:1"; ENDPOINTS_MAX + 1]), Err(BadRule::TooLong));
    assert!(NetworkRule::named("all").is_err());
}
