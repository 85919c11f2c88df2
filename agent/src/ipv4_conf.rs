//! What IPv4 does on a link, as a part of a netlink request that changes the link: no path of the link's is looked up
//! among those of all namespaces, as `sysctl` has to.

use std::fmt;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute};

/// `IFLA_INET_CONF` of linux/if_link.h, and `IPV4_DEVCONF_` numbers of linux/ip.h.
const INET_CONF: u16 = 1;
const ACCEPT_REDIRECTS: u16 = 4;
const ARP_NOTIFY: u16 = 22;

/// Settings of IPv4 on a link, as `net.ipv4.conf.LINK` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Conf {
    /// Believe a router that names another.
    pub accept_redirects: bool,
    /// Tell the neighbours of an address that is new, or of a link that has gone up.
    pub arp_notify: bool,
}

impl Ipv4Conf {
    /// By hand: the crate's request has no zeros.
    pub(crate) fn attribute(self) -> LinkAttribute {
        let rows = [
            (ACCEPT_REDIRECTS, self.accept_redirects),
            (ARP_NOTIFY, self.arp_notify),
        ];
        let settings = rows.map(|(setting, on)| {
            let attribute = DefaultNla::new(setting, u32::from(on).to_ne_bytes().to_vec());
            let mut bytes = vec![0; attribute.buffer_len()];
            attribute.emit(&mut bytes);
            bytes
        });
        let conf = DefaultNla::new(INET_CONF | NLA_F_NESTED, settings.concat());
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![AfSpecInet::Other(conf)])])
    }
}

impl fmt::Display for Ipv4Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (redirects, notify) = (u8::from(self.accept_redirects), u8::from(self.arp_notify));
        write!(f, "accept_redirects={redirects} arp_notify={notify}")
    }
}
