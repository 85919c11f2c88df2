//! Permission to move the shared types through aya's map interface: the only `unsafe` here.

use crate::{
    conntrack::Connection,
    fabric::Route,
    flow::FlowKey,
    maps::{Control, Counters, Endpoint, Eni, FragmentFate, Row},
    policy::{Node, Policy, RuleSet},
};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            const _: () = {
                const fn is_plain<T: zerocopy::FromBytes + zerocopy::IntoBytes + Copy>() {}
                is_plain::<$type>();
            };
            // SAFETY: zerocopy's derives, asked for just above, prove that the type has no
            // padding and accepts every bit pattern.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(
    Connection,
    Control,
    Counters,
    Endpoint,
    Eni,
    FlowKey,
    FragmentFate,
    Node,
    Policy,
    Route,
    Row,
    RuleSet,
);

#[cfg(feature = "bench")]
pod!(crate::bench::Preparation);
