//! One command or script, as it is sent.

use std::sync::LazyLock;

use redis::Cmd;

/// The scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Read,
    Take,
    Refund,
    Quota,
    Write,
    Delete,
    Kv,
    Keep,
    Enter,
    Leave,
}

/// What is asked. It can be asked again, so that a server that forgot a script is told it.
pub(super) struct Question {
    name: What,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
    /// Whether it may be asked again when nobody knows if it was heard.
    pub(super) may_repeat: bool,
}

enum What {
    Command(&'static str),
    Script(Script),
}

impl Question {
    pub(super) fn command(name: &'static str, may_repeat: bool) -> Self {
        Self { name: What::Command(name), keys: Vec::new(), args: Vec::new(), may_repeat }
    }

    pub(super) fn script(script: Script, may_repeat: bool) -> Self {
        Self { name: What::Script(script), keys: Vec::with_capacity(4), args: Vec::with_capacity(24), may_repeat }
    }

    pub(super) fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(key.as_ref().to_vec());
        self
    }

    pub(super) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }

    /// Whether its answer says that the server writes.
    pub(super) const fn is_write(&self) -> bool {
        match self.name {
            // These read, too.
            What::Script(Script::Read | Script::Kv | Script::Quota) | What::Command(_) => !self.may_repeat,
            What::Script(_) => true,
        }
    }

    pub(super) fn is_script(&self) -> bool {
        matches!(self.name, What::Script(_))
    }

    /// As it is sent; a script by its hash, or whole.
    pub(super) fn to_cmd(&self, is_whole: bool) -> Cmd {
        let mut cmd = match self.name {
            What::Command(name) => redis::cmd(name),
            What::Script(script) if is_whole => {
                let mut cmd = redis::cmd("EVAL");
                cmd.arg(script.code()).arg(self.keys.len());
                cmd
            }
            What::Script(script) => {
                let mut cmd = redis::cmd("EVALSHA");
                cmd.arg(script.hash()).arg(self.keys.len());
                cmd
            }
        };
        for part in self.keys.iter().chain(&self.args) {
            cmd.arg(part.as_slice());
        }
        cmd
    }
}

impl Script {
    const fn code(self) -> &'static str {
        match self {
            Self::Read => include_str!("read.lua"),
            Self::Take => concat!(include_str!("numbers.lua"), include_str!("take.lua")),
            Self::Refund => concat!(include_str!("numbers.lua"), include_str!("refund.lua")),
            Self::Quota => include_str!("quota.lua"),
            Self::Write => include_str!("write.lua"),
            Self::Delete => include_str!("delete.lua"),
            Self::Kv => concat!(include_str!("numbers.lua"), include_str!("kv.lua")),
            Self::Keep => concat!(
                "local function write()\n",
                include_str!("write.lua"),
                "end\n",
                include_str!("enter.lua"),
                include_str!("keep.lua")
            ),
            Self::Enter => {
                concat!(
                    include_str!("enter.lua"),
                    "return enter(KEYS[2], KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])"
                )
            }
            Self::Leave => include_str!("leave.lua"),
        }
    }

    fn hash(self) -> &'static str {
        static HASHES: LazyLock<[redis::Script; 10]> = LazyLock::new(|| {
            let scripts = [
                Script::Read,
                Script::Take,
                Script::Refund,
                Script::Quota,
                Script::Write,
                Script::Delete,
                Script::Kv,
                Script::Keep,
                Script::Enter,
                Script::Leave,
            ];
            scripts.map(|script| redis::Script::new(script.code()))
        });
        let [read, take, refund, quota, write, delete, kv, keep, enter, leave] = &*HASHES;
        match self {
            Self::Read => read,
            Self::Take => take,
            Self::Refund => refund,
            Self::Quota => quota,
            Self::Write => write,
            Self::Delete => delete,
            Self::Kv => kv,
            Self::Keep => keep,
            Self::Enter => enter,
            Self::Leave => leave,
        }
        .get_hash()
    }
}
