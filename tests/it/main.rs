//! What callers and operators see of a whole gateway. One module for each theme.

mod examples;
mod hostile;
mod load;
mod operations;
mod order;
mod proxy;
mod readme;
mod table;
