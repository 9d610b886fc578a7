//! Tests of the bounds on connections: examples, and random lives against a plain model of them.

use super::*;
use proptest::prelude::*;

type Limits = Arc<ConnectionLimits<Arc<()>>>;

fn limits(max: usize, per_address: usize) -> Limits {
    Arc::new(ConnectionLimits::new(max, per_address))
}

/// Whether the connection that left this token still has its slot.
fn stays(token: &Arc<()>) -> bool {
    Arc::strong_count(token) > 1
}

fn enter(limits: &Limits, address: &str) -> Result<(ConnectionSlot<Arc<()>>, Arc<()>), Refusal> {
    let token = Arc::new(());
    limits.enter(Some(address.parse().unwrap()), token.clone()).map(|slot| (slot, token))
}

#[test]
fn who_waits_gives_way_oldest_first() {
    let limits = limits(100, 2);
    let (_a, first) = enter(&limits, "192.0.2.1").unwrap();
    let (_other, other) = enter(&limits, "192.0.2.2").unwrap();
    let (_b, second) = enter(&limits, "192.0.2.1").unwrap();
    let (_c, third) = enter(&limits, "192.0.2.1").unwrap();
    assert!(!stays(&first) && stays(&second) && stays(&third));
    assert!(stays(&other), "another address is not asked to give way");
}

#[test]
fn who_shows_a_key_stays_and_is_charged_until_it_publishes() {
    let limits = limits(100, 2);
    let (a, first) = enter(&limits, "192.0.2.1").unwrap();
    let (b, _second) = enter(&limits, "192.0.2.1").unwrap();
    assert!(a.hold() && b.hold());
    assert_eq!(enter(&limits, "192.0.2.1").unwrap_err(), Refusal::Address);
    assert!(a.publishes());
    let (_c, third) = enter(&limits, "192.0.2.1").unwrap();
    assert!(stays(&first) && stays(&third));
    b.wait();
    let (_d, _fourth) = enter(&limits, "192.0.2.1").unwrap();
    assert!(!stays(&third), "it is older than one that waits again");
}

#[test]
fn publishers_keep_their_slots_and_all_others_give_way() {
    let limits = limits(3, 100);
    let kept: Vec<_> = ["192.0.2.1", "192.0.2.2"].iter().map(|a| enter(&limits, a).unwrap()).collect();
    assert!(kept.iter().all(|(slot, _)| slot.publishes()));
    let (gone, waits) = enter(&limits, "192.0.2.3").unwrap();
    let (last, token) = enter(&limits, "192.0.2.4").unwrap();
    assert!(!stays(&waits) && stays(&token) && kept.iter().all(|(_, token)| stays(token)));
    assert!(!gone.hold() && !gone.publishes(), "it has given way");
    assert!(last.publishes());
    assert_eq!(enter(&limits, "192.0.2.5").unwrap_err(), Refusal::Full);
    drop(gone);
    assert_eq!(enter(&limits, "192.0.2.5").unwrap_err(), Refusal::Full, "its slot is counted once");
    drop(last);
    assert!(enter(&limits, "192.0.2.5").is_ok());
}

#[test]
fn ipv6_is_counted_by_network_and_by_site() {
    let limits = limits(100, 1);
    let site: Vec<_> = (0..4).map(|i| enter(&limits, &format!("2001:db8:0:{i}::1")).unwrap()).collect();
    let (_same, _) = enter(&limits, "2001:db8:0:3::2").unwrap();
    assert!(!stays(&site[3].1) && stays(&site[0].1), "of the same /64");
    let (_fifth, _) = enter(&limits, "2001:db8:0:9::1").unwrap();
    assert!(!stays(&site[0].1) && stays(&site[1].1), "of the same /48, the oldest");
    let (_mapped, v4) = enter(&limits, "::ffff:192.0.2.1").unwrap();
    let (_plain, _) = enter(&limits, "192.0.2.1").unwrap();
    assert!(!stays(&v4), "the same address in another notation");
}

#[test]
fn a_proxys_connection_is_charged_to_whom_it_brings() {
    let limits = limits(100, 1);
    let open = || limits.enter(None, Arc::new(())).unwrap();
    let proxied: Vec<_> = (0..10).map(|_| open()).collect();
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    proxied[0].charge(client).unwrap();
    proxied[1].charge(client).unwrap();
    assert!(!proxied[0].hold() && proxied[1].hold());
    assert_eq!(proxied[2].charge(client), Err(Refusal::Address));
    proxied[3].charge("192.0.2.8".parse().unwrap()).unwrap();
    proxied[3].charge("192.0.2.8".parse().unwrap()).unwrap();
}

#[test]
fn a_wrong_key_hinders_no_neighbour_and_many_are_bounded() {
    for per_address in [1, 3, 40] {
        let limits = limits(1000, per_address);
        let mut wrong = Vec::new();
        let tries = loop {
            let Ok((slot, _)) = enter(&limits, "192.0.2.1") else { break wrong.len() };
            assert!(slot.hold());
            slot.fine();
            wrong.push(slot);
        };
        assert_eq!(tries, per_address.max(MIN_TRIES));
        assert!(enter(&limits, "192.0.2.2").is_ok());
        // The charge for one is over.
        wrong.pop();
        let (_good, token) = enter(&limits, "192.0.2.1").unwrap();
        assert!(stays(&token));
        if per_address > 1 {
            enter(&limits, "192.0.2.1").unwrap();
        }
    }
}

#[test]
fn charges_give_way_where_all_is_full() {
    let limits = limits(3, 100);
    let fines: Vec<_> = (0..2).map(|_| enter(&limits, "192.0.2.1").unwrap()).collect();
    fines.iter().for_each(|(slot, _)| slot.fine());
    let (_waits, waits) = enter(&limits, "192.0.2.2").unwrap();
    let (kept, _) = enter(&limits, "192.0.2.3").unwrap();
    assert!(!stays(&waits) && fines.iter().all(|(_, token)| stays(token)), "who waits goes first");
    assert!(kept.publishes());
    let (other, _) = enter(&limits, "192.0.2.4").unwrap();
    assert!(other.publishes() && !stays(&fines[0].1) && stays(&fines[1].1));
    drop(fines);
    assert!(limits.table().fines.is_empty());
}

fn address(number: u8) -> IpAddr {
    match number % 4 {
        0 => IpAddr::from([192, 0, 2, number / 64]),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(number / 32), 0, 0, 0, 1).into(),
    }
}

proptest! {
    #[test]
    fn the_bounds_hold_and_nothing_is_left_behind(
        (max, per_address) in (1usize..8, 1usize..4),
        steps in proptest::collection::vec((0u8..6, any::<u8>()), 0..80),
    ) {
        let limits = limits(max, per_address);
        let mut open: Vec<(ConnectionSlot<Arc<()>>, Arc<()>, bool)> = Vec::new();
        for (what, number) in steps {
            let at = usize::from(number) % open.len().max(1);
            match (what, open.get_mut(at)) {
                (0 | 1, _) | (_, None) => {
                    let token = Arc::new(());
                    let publishing = open.iter().filter(|(_, token, published)| *published && stays(token)).count();
                    match limits.enter(Some(address(number)), token.clone()) {
                        Ok(slot) => open.push((slot, token, false)),
                        Err(Refusal::Full) => prop_assert!(publishing > 0 || limits.table().entries.len() == max),
                        Err(Refusal::Address) => prop_assert!(!open.is_empty()),
                    }
                }
                (2, Some((slot, token, _))) => prop_assert_eq!(slot.hold(), stays(token)),
                (3, Some((slot, token, published))) => {
                    prop_assert_eq!(slot.publishes(), stays(token));
                    *published = true;
                }
                (4, Some((slot, _, published))) if !*published => slot.fine(),
                (_, Some((slot, ..))) if number % 2 == 0 => slot.wait(),
                _ => _ = open.swap_remove(at),
            }
            let counted = open.iter().filter(|(_, token, _)| stays(token)).count();
            prop_assert_eq!(limits.table().entries.len(), counted);
            prop_assert!(counted <= max);
            let table = limits.table();
            for (network, charge) in &table.networks {
                let factor = if matches!(network, Network::Site(_)) { SITE_FACTOR } else { 1 };
                prop_assert!(charge.connections <= per_address * factor);
                prop_assert!(charge.tries() <= (per_address * factor).max(MIN_TRIES));
                prop_assert!(charge.connections + charge.fines > 0 && charge.waiting.len() <= charge.connections);
            }
        }
        drop(open);
        let table = limits.table();
        prop_assert!(table.entries.is_empty() && table.waiting.is_empty() && table.fines.is_empty() && table.networks.is_empty());
    }
}
