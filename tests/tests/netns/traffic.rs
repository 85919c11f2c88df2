//! Tasks reach one another as their groups say, over the local VPC's fabric.

use branchline_tests::{host::Host, settings::Settings};

#[test]
fn a_host_comes_up_and_goes() {
    let host = Host::new("up", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let a = host.add_task("a", &["subnet-a"], &["sg-server"]).unwrap();
    let out = host.outside(1500).unwrap();
    println!("{a:?} {out:?} {:?}", host.status().unwrap());
    host.kill_agent().unwrap();
    host.start_agent().unwrap();
    host.remove_task("a").unwrap();
    host.stop_agent().unwrap();
    println!("{}", host.purge().unwrap());
    println!("{:?}", host.flow_rows().unwrap());
}
