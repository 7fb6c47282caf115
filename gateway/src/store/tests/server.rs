//! Real Redis servers: alone, with TLS, as a cluster. Each ends with its test.

use std::time::Duration;

use super::process::Redis;
use crate::model::store::{RedisClock, RedisSettings, RedisTls};

/// A server on a port of its own.
pub(super) struct Server {
    process: Redis,
    pub(super) port: u16,
    tls: Option<RedisTls>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::of(Redis::start(), None)
    }

    /// One that keeps what it acknowledged.
    pub(super) fn durable() -> Self {
        Self::of(Redis::durable(), None)
    }

    pub(super) fn with_tls() -> Self {
        let process = Redis::with_tls();
        let authority = process.authority().map(std::path::Path::to_owned);
        Self::of(process, Some(RedisTls { authority, certificate: None }))
    }

    fn of(process: Redis, tls: Option<RedisTls>) -> Self {
        let port = process.port();
        Self { process, port, tls }
    }

    /// Starts it, on the same port and folder as before; whether it accepts connections.
    pub(super) fn run(&mut self) -> bool {
        self.process.run()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    pub(super) fn settings(&self) -> RedisSettings {
        let host = if self.tls.is_some() { "localhost" } else { "127.0.0.1" };
        RedisSettings {
            addresses: vec![(host.to_owned(), self.port)],
            tls: self.tls.clone(),
            deadline: Duration::from_secs(10),
            clock: RedisClock::Gateway,
            ..RedisSettings::default()
        }
    }

    /// Has all keys live shorter, as if so much time had passed.
    pub(super) fn age(&self, by: Duration) {
        const AGE: &str = "for _, key in ipairs(redis.call('KEYS', '*')) do
            local life = redis.call('PTTL', key)
            if life > 0 and life <= tonumber(ARGV[1]) then redis.call('DEL', key)
            elseif life > 0 then redis.call('PEXPIRE', key, life - tonumber(ARGV[1])) end
        end";
        self.tell(redis::cmd("EVAL").arg(AGE).arg(0).arg(u64::try_from(by.as_millis()).expect("it is short")));
    }

    pub(super) fn tell(&self, cmd: &redis::Cmd) -> redis::Value {
        let mut connection = self.client().get_connection().expect("it runs");
        cmd.query(&mut connection).expect("it can")
    }

    fn client(&self) -> redis::Client {
        match &self.tls {
            None => redis::Client::open(("127.0.0.1", self.port)).expect("the address is good"),
            Some(tls) => {
                let authority = tls.authority.as_ref().map(|path| std::fs::read(path).expect("we wrote it"));
                let certificates = redis::TlsCertificates { client_tls: None, root_cert: authority };
                let url = format!("rediss://localhost:{}", self.port);
                redis::Client::build_with_tls(url, certificates).expect("the address is good")
            }
        }
    }
}

/// Three servers that share the slots.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Server>,
}

impl Cluster {
    pub(super) fn start() -> Self {
        let nodes = Redis::cluster().into_iter().map(|node| Server::of(node, None)).collect();
        Self { nodes }
    }

    pub(super) fn settings(&self) -> RedisSettings {
        let addresses = self.nodes.iter().map(|node| ("127.0.0.1".to_owned(), node.port)).collect();
        RedisSettings {
            addresses,
            cluster: true,
            deadline: Duration::from_secs(10),
            clock: RedisClock::Gateway,
            ..RedisSettings::default()
        }
    }
}
