//! Computes for ever.

everywhere::act!(spin);

fn spin() -> Result<(), String> {
    loop {
        std::hint::black_box(());
    }
}
