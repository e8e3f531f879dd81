//! The interfaces of this machine.

/// Addresses with the interface that they are meant on: one that does not need it, and link-local ones, where the machine has
/// them ready (`/proc/net/if_inet6`).
pub(crate) fn addresses_on_interfaces() -> Vec<String> {
    const LINK: &str = "20";
    const NOT_READY: u32 = 0x48;
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
    let link_local = table.lines().filter_map(|line| {
        let [address, _, _, scope, flags, name] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let is_ready = u32::from_str_radix(flags, 16).unwrap() & NOT_READY == 0;
        let address = std::net::Ipv6Addr::from_bits(u128::from_str_radix(address, 16).unwrap());
        (scope == LINK && is_ready).then(|| format!("{address}%{name}"))
    });
    std::iter::once("::1%lo".to_owned()).chain(link_local).collect()
}
