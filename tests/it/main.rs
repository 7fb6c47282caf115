//! What callers and operators see of a whole gateway. One module for each theme.

mod hostile;
mod order;
mod proxy;
mod table;
