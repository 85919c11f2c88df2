//! Tier 2 probe.
#[test]
fn loads() {
    let d = branchline::datapath::Datapath::load(&branchline::datapath::Settings {
        pins: None,
        connections: 1024,
        rows: 1024,
        log_drops: false,
    });
    match d {
        Ok(d) => eprintln!("{:?}", d.clock()),
        Err(e) => {
            let mut s: Option<&dyn std::error::Error> = Some(&e);
            while let Some(x) = s {
                eprintln!("{x}");
                s = x.source();
            }
            panic!()
        }
    }
}
