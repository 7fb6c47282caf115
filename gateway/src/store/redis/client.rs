//! How to reach the server or cluster: addresses, credentials, TLS.

use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client as Single, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};

use crate::files;
use crate::model::store::{RedisSettings, RedisTls};
use crate::store::error::OpenError;

/// Makes connections.
pub(super) struct Client {
    /// One for each address: a subscription needs one node.
    nodes: Vec<Single>,
    cluster: Option<ClusterClient>,
    config: AsyncConnectionConfig,
}

/// A connection that many calls share. Its driver is a task of the runtime that it was made in.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Client {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, OpenError> {
        let failed = |error: redis::RedisError| OpenError::Redis(error.to_string());
        if settings.addresses.is_empty() {
            return Err(OpenError::Redis("there is no address".to_owned()));
        }
        if !settings.cluster && settings.addresses.len() > 1 {
            return Err(OpenError::Redis("several addresses, but not a cluster".to_owned()));
        }
        if settings.cluster && settings.database != 0 {
            return Err(OpenError::Redis("a cluster has no database but 0".to_owned()));
        }
        let tls = settings.tls.as_ref().map(certificates).transpose()?;
        let mut nodes = Vec::new();
        let mut infos = Vec::new();
        for address in &settings.addresses {
            let info = info(settings, address).map_err(failed)?;
            infos.push(info.clone());
            nodes.push(
                match &tls {
                    Some(tls) => Single::build_with_tls(info, tls.clone()),
                    None => Single::open(info),
                }
                .map_err(failed)?,
            );
        }
        let cluster = settings.cluster.then(|| {
            let mut builder = ClusterClientBuilder::new(infos)
                .connection_timeout(settings.deadline)
                .response_timeout(settings.deadline)
                .tcp_settings(TcpSettings::default().set_nodelay(true));
            if let Some(tls) = &tls {
                builder = builder.certs(tls.clone());
            }
            builder.build()
        });
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.deadline))
            // The link has a deadline for the whole call.
            .set_response_timeout(None);
        Ok(Self { nodes, cluster: cluster.transpose().map_err(failed)?, config })
    }

    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        if let Some(cluster) = &self.cluster {
            return cluster.get_async_connection().await.map(Connection::Cluster);
        }
        let mut refused = None;
        for node in &self.nodes {
            match node.get_multiplexed_async_connection_with_config(&self.config).await {
                Ok(connection) => return Ok(Connection::Single(connection)),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| (redis::ErrorKind::InvalidClientConfig, "there is no address").into()))
    }

    /// Subscribes at one of the nodes: in a cluster, what is published at one is told at all. `turn` picks where to begin.
    pub(super) async fn subscribe(&self, channel: &str, turn: usize) -> RedisResult<(PubSubSink, PubSubStream)> {
        let node = self.nodes.iter().cycle().nth(turn % self.nodes.len().max(1));
        let node = node.ok_or((redis::ErrorKind::InvalidClientConfig, "there is no address"))?;
        let (mut sink, stream) = node.get_async_pubsub().await?.split();
        sink.subscribe(channel).await?;
        Ok((sink, stream))
    }
}

impl Connection {
    pub(super) async fn ask(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(connection) => cmd.query_async(connection).await,
            Self::Cluster(connection) => cmd.query_async(connection).await,
        }
    }

    /// Asks one node of a cluster; without a cluster there is one node.
    pub(super) async fn ask_node(&mut self, cmd: &Cmd, host: &str, port: u16) -> RedisResult<Value> {
        use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
        match self {
            Self::Single(connection) => cmd.query_async(connection).await,
            Self::Cluster(connection) => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port };
                connection.route_command(cmd.clone(), RoutingInfo::SingleNode(node)).await
            }
        }
    }
}

fn info(settings: &RedisSettings, (host, port): &(String, u16)) -> RedisResult<ConnectionInfo> {
    let address = match &settings.tls {
        None => ConnectionAddr::Tcp(host.clone(), *port),
        Some(_) => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
    };
    let mut redis = RedisConnectionInfo::default().set_db(i64::from(settings.database));
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password);
    }
    let tcp = TcpSettings::default().set_nodelay(true);
    Ok(address.into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp))
}

fn certificates(tls: &RedisTls) -> Result<TlsCertificates, OpenError> {
    let read = |path: &std::path::Path| {
        files::read(path).map_err(|error| OpenError::Redis(format!("`{}` cannot be read: {error}", path.display())))
    };
    let client_tls = match &tls.certificate {
        None => None,
        Some((certificate, key)) => Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? }),
    };
    Ok(TlsCertificates { client_tls, root_cert: tls.authority.as_deref().map(read).transpose()? })
}
