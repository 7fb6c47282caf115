//! What callers and operators see of a whole gateway. One module for each theme.

#![expect(clippy::indexing_slicing, reason = "a test that looks for what is not there has failed, and says where")]

mod apis;
mod caller_limits;
mod caps;
mod compile;
mod corpus;
mod egress;
mod examples;
mod failures;
mod fetch;
mod gateway_limits;
mod hostile;
mod keys;
mod limits;
mod load;
mod operations;
mod order;
mod outgoing_limits;
mod plugin_limits;
mod provenance;
mod proxy;
mod quarantine;
mod readme;
mod regressions;
mod reload;
mod rights;
mod sessions;
mod stores;
mod table;
mod versions;
