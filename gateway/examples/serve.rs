fn main() {
    let path = std::env::args().nth(1).unwrap();
    let (gateway, warnings) = stile::spec::read(std::path::Path::new(&path)).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(2) });
    for w in warnings { eprintln!("{w:?}"); }
    stile::telemetry::log::init(&gateway.log).unwrap();
    let running = stile::app::start(&gateway, &stile::clock::Clock::system(), |n| eprintln!("loading {n}")).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(1) });
    eprintln!("listening {:?} control {:?}", running.addresses, running.control());
    std::io::read_to_string(std::io::stdin()).unwrap();
    println!("{:?}", running.drain());
}
