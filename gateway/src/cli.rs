//! The `stile` command: arguments, texts for people, exit codes. The only module that prints.

mod check;
mod control;
mod declared;
mod diff;
mod inspect;
mod key;
mod policy;
pub mod progress;
mod reload;
mod serve;
mod table;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::plugin::compile::confined::{self, COMMAND, Order};

/// An HTTP API gateway whose plugins are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "stile", version, about, after_long_help = AFTER_HELP, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests until SIGTERM or SIGINT.
    #[command(after_long_help = "Examples:\n  stile serve\n  stile serve -c /etc/stile/stile.yaml")]
    Serve(ConfigFile),
    /// Read the configuration and say what is wrong with it.
    #[command(after_long_help = "Examples:\n  stile check\n  stile check -c stile.toml --deny-warnings\n  \
                                 stile check --explain")]
    Check(CheckArgs),
    /// Look at plugin files, and at what a running gateway has loaded.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Make, show, change and delete keys of a running gateway.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Show, put and delete policies of a running gateway.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Have a running gateway read its definitions and plugin files again.
    #[command(
        after_long_help = "Examples:\n  stile reload\n  stile reload --group\n\nFiles are watched too, and SIGHUP does the \
                                 same. What cannot be used leaves what runs as it was; then the exit code is 1."
    )]
    Reload(reload::ReloadArgs),
    /// Compile a component for a gateway, which starts this itself: reads and writes what only a gateway does.
    #[command(name = COMMAND, hide = true)]
    Compile {
        /// Settings and limits.
        order: Vec<String>,
    },
    /// Print the JSON Schema of the configuration file.
    #[command(after_long_help = "Example:\n  stile schema > stile.schema.json\n\nAn editor with YAML support uses it \
                                 after this first line of stile.yaml:\n  # yaml-language-server: $schema=stile.schema.json")]
    Schema,
    /// Print completions for a shell.
    #[command(
        after_long_help = "Example:\n  stile completions bash > ~/.local/share/bash-completion/completions/stile"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which configuration is used.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file. Without it: $STILE_CONFIG, or else stile.yaml, or else stile.toml.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Print the order of work of each API.
    #[arg(long)]
    explain: bool,
    /// Take warnings for errors.
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Say what a component file is and what it asks for.
    #[command(after_long_help = "Examples:\n  stile plugin inspect plugins/headers.wasm\n  \
                                 stile plugin inspect plugins/headers.wasm --json\n  \
                                 stile plugin inspect --plugin headers -c stile.yaml\n  \
                                 stile plugin inspect new/headers.wasm --plugin headers -c stile.yaml\n\nWith --plugin: \
                                 what the component asks for, what the configuration grants the plugin of this name, what \
                                 the deployment allows (`runtime.grants_max`), and the lines to add. A plugin that is elsewhere is \
                                 fetched as the gateway does, and kept where it keeps it.\n\n\
                                 Exit codes:\n  0   it loads, and with --plugin nothing that it asks for is missing\n  1   with --plugin: \
                                 a grant is missing, or it cannot be fetched\n  2   it cannot be loaded, or the configuration is wrong")]
    Inspect {
        /// The component file. Default with --plugin: that of the plugin.
        #[arg(required_unless_present = "plugin")]
        file: Option<PathBuf>,
        /// Compare with what the configuration says of the plugin of this name.
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say which rights a new version of a component has gained and lost against an old one.
    #[command(after_long_help = "Examples:\n  stile plugin diff old.wasm new.wasm\n  \
                                 stile plugin diff old.wasm new.wasm --json\n\nRights are the capabilities that a component \
                                 asks for, its imports, its functions at hooks, and what these are handed of requests.\n\n\
                                 Exit codes:\n  0   no right was gained\n  1   some were\n  2   one of the files cannot be loaded")]
    Diff {
        /// The component file that is used now.
        old: PathBuf,
        /// The one that is to take its place.
        new: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Call a plugin again that a running gateway put into quarantine because it did nothing but fail.
    #[command(
        after_long_help = "Example:\n  stile plugin release headers\n\nIt begins clean: if it goes on failing, it is put \
                                 there again."
    )]
    Release {
        /// The plugin.
        name: String,
        #[command(flatten)]
        control: control::ControlArgs,
    },
    /// List the plugins of a running gateway: which version of each is used, and what is wrong with its file or with itself.
    #[command(after_long_help = "Example:\n  stile plugin list")]
    List {
        #[command(flatten)]
        control: control::ControlArgs,
    },
}

/// Why a command ended without success.
#[derive(Debug)]
pub enum Failure {
    /// The use or the configuration is wrong: exit code 2.
    Usage(anyhow::Error),
    /// It failed while it ran: exit code 1.
    Run(anyhow::Error),
    /// Standard output could not be written: exit code 1, but success where its reader has seen enough (`| head`).
    Output(io::Error),
    /// The configuration is wrong, and that was the answer asked for: exit code 2 without a word more.
    Told,
}

impl Failure {
    /// For `map_err`: a failure of use or configuration.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// For `map_err`: a failure while running.
    pub fn run(error: impl Into<anyhow::Error>) -> Self {
        Self::Run(error.into())
    }
}

/// Runs the command of these arguments and gives the exit code of the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive here too; clap knows where each belongs and its colours.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * EXIT_USAGE);
        }
    };
    let failure = match execute(cli.command, &mut io::stdout()) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let (error, code) = match failure {
        Failure::Told => return ExitCode::from(EXIT_USAGE),
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Output(error) => (anyhow::Error::new(error).context("standard output cannot be written"), EXIT_RUN),
        Failure::Run(error) => (error, EXIT_RUN),
        Failure::Usage(error) => (error, EXIT_USAGE),
    };
    // A list of problems names the severity of each already.
    let start = if error.is::<crate::spec::Problems>() { "" } else { "error: " };
    let _ = writeln!(io::stderr(), "{start}{error:#}");
    ExitCode::from(code)
}

fn execute(command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Serve(config) => serve::serve(&config.path()?, &mut io::stderr()),
        Command::Check(args) => check::check(&args.config.path()?, args.explain, args.deny_warnings, out),
        Command::Plugin(PluginCommand::Inspect { file, plugin, config, json }) => {
            let config = plugin.map(|name| Ok((config.path()?, name))).transpose()?;
            let declared = config.as_ref().map(|(path, name)| (path.as_path(), name.as_str()));
            inspect::inspect(file.as_deref(), declared, json, out)
        }
        Command::Plugin(PluginCommand::Diff { old, new, json }) => diff::diff(&old, &new, json, out),
        Command::Plugin(PluginCommand::Release { name, control }) => reload::release(&name, &control, out),
        Command::Plugin(PluginCommand::List { control }) => reload::plugins(&control, out),
        Command::Key(command) => key::run(command, out),
        Command::Policy(command) => policy::run(command, out),
        Command::Reload(args) => reload::run(&args, out),
        Command::Compile { order } => {
            let order = Order::parse(&order).ok_or_else(|| {
                Failure::Usage(anyhow::anyhow!("a gateway starts this itself, with something to work on"))
            })?;
            confined::run(&order, &mut io::stdin().lock(), out).map_err(Failure::run)
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&crate::spec::schema()).map_err(Failure::run)?;
            writeln!(out, "{schema}").map_err(Failure::Output)
        }
        Command::Completions { shell } => {
            // clap_complete panics where it cannot write: a buffer cannot fail.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stile", &mut script);
            out.write_all(&script).map_err(Failure::Output)
        }
    }?;
    out.flush().map_err(Failure::Output)
}

impl ConfigFile {
    /// The file to read.
    fn path(self) -> Result<PathBuf, Failure> {
        let named = || std::env::var_os("STILE_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        if let Some(path) = self.config.or_else(named) {
            return Ok(path);
        }
        ["stile.yaml", "stile.toml"].into_iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| {
            Failure::Usage(anyhow::anyhow!(
                "there is no stile.yaml and no stile.toml in the working directory\n  hint: name the file with --config"
            ))
        })
    }
}

/// This program, for the processes that compile plugins: the file that runs, whatever stands at its path by now.
fn this_program() -> Option<&'static Path> {
    // A test is not `stile`: it would run itself.
    (!cfg!(test)).then_some(Path::new("/proc/self/exe"))
}

const EXIT_RUN: u8 = 1;
const EXIT_USAGE: u8 = 2;
const AFTER_HELP: &str = "\
Examples:
  stile check                     is the configuration good?
  stile serve                     serve with stile.yaml of the working directory
  stile serve -c gateway.toml     serve with another one
  stile plugin inspect a.wasm     what does this plugin want?
  stile key create --api orders   let somebody in
  stile reload                    take up changed files now

Environment:
  STILE_CONFIG           the configuration file of `check` and `serve`, where --config is not given
  STILE_CONTROL          the control port that `key`, `policy` and `reload` ask, such as http://127.0.0.1:8081
  STILE_CONTROL_SECRET   its secret
  NO_COLOR               set and not empty: no colours
  and each variable that the configuration names as ${NAME}

Exit codes:
  0   fine
  1   failed while running
  2   bad usage or configuration";

#[cfg(test)]
mod tests;
