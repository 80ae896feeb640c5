//! `verdict policy`.

mod check;
mod diff;
mod input;
mod list;
mod publish;

use std::path::{Path, PathBuf};

use verdict_replay::policy::signature::{self, Algorithm, Key, Verified};
use verdict_replay::policy::{Bundle, Policy, registry};

use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit, Kind};

/// What to do when a server has the ledger open.
const WHILE_SERVED: &str = "a policy version is an entry of the ledger: stop `verdict serve` (agents send again what it did not acknowledge), run this, start it again";

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Store a bundle in the ledger, so that this version can be run again at any time
    ///
    /// The bundle must compile and pass its own tests.
    #[command(after_help = "\
Examples:
  verdict policy publish policies/ --activate --by ci --reason 'PR 214: refund limit'
  verdict policy publish bundle.tar.gz --verification-key opa.pem --reason 'signed by the build'
  verdict policy publish policies/ --override 'test_loop waits for issue 31' --reason 'stop refunds now'")]
    Publish {
        /// Bundle: a directory or a .tar.gz.
        path: PathBuf,
        /// Also say that it is in force from now on.
        #[arg(long)]
        activate: bool,
        /// Publish although the bundle fails its own tests, and record why.
        #[arg(long = "override", value_name = "WHY")]
        overriding: Option<String>,
        #[command(flatten)]
        verification: Verification,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// Say that a published version is in force from now on
    #[command(after_help = "\
Example:
  verdict policy activate harbor-goods@2 --by ops --reason 'change 881'")]
    Activate {
        /// Policy: name@version, or a digest or its first 8 digits or more.
        reference: String,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// List published versions
    List,
    /// List publications and activations, in the order of the log
    #[command(after_help = "\
Examples:
  verdict policy history
  verdict policy history harbor-goods --format json")]
    History {
        /// Only this bundle.
        name: Option<String>,
    },
    /// Show one version: identity, files, rules
    Show {
        /// Policy: name@version, digest (its first 8 digits do), `active`, or a path with a `/`.
        reference: String,
        /// Print this file of the bundle instead.
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
    },
    /// Show what differs between two versions: rules, data, lines
    ///
    /// What differs in decisions is told by `verdict replay diff`.
    #[command(after_help = "\
Examples:
  verdict policy diff active policies/
  verdict policy diff harbor-goods@1 harbor-goods@2 --format json")]
    Diff {
        /// The one: what `show` takes.
        base: String,
        /// The other.
        head: String,
        /// Exit with code 1 when anything differs.
        #[arg(long)]
        exit_code: bool,
    },
    /// Compile a bundle and name every problem with file and line
    #[command(after_help = "\
Examples:
  verdict policy check policies/
  verdict policy check bundle.tar.gz --verification-key opa.pem --verification-key-id build")]
    Check {
        /// Policy: a path, or what `show` takes.
        reference: String,
        #[command(flatten)]
        verification: Verification,
    },
    /// Run the tests of a bundle
    ///
    /// Tests are rules named `test_…` in `tests/*.rego`, and tables of cases in `tests/*.toml` and `tests/*.json`.
    #[command(after_help = "\
Examples:
  verdict policy test policies/
  verdict policy test policies/ --coverage --threshold 90")]
    Test {
        /// Policy: a path, or what `show` takes.
        reference: String,
        /// Also list lines that no test evaluated.
        #[arg(long)]
        coverage: bool,
        /// Fail when the tests evaluate less than this much of the policies, in percent.
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
        threshold: Option<u32>,
    },
    /// Print the schema of the input document, for editors, or as Cedar's
    #[command(after_help = "\
Examples:
  verdict policy schema > input.schema.json
  verdict policy schema --format cedar > verdict.cedarschema")]
    Schema,
    /// Print the exact input of a recorded decision
    ///
    /// The input is the one that `verdict replay` decides: the action as the log knows it, under the state before it.
    #[command(after_help = "\
Examples:
  verdict policy input --event 1042 > input.json && opa eval -d policies/ --input input.json data.acme.agents.findings
  verdict policy input --event 1042 --format cedar --out asked/ && \\
    cedar authorize --policies policies/policy --request-json asked/request.json --entities asked/entities.json
  verdict policy input --example")]
    Input {
        /// Entry number or event id of the action, or of anything that was reported of it.
        #[arg(long, value_name = "SEQ|ID", required_unless_present = "example")]
        event: Option<String>,
        /// Print the smallest valid input instead.
        #[arg(long, conflicts_with = "event")]
        example: bool,
        /// Write files into this directory instead.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Whose signature a bundle must have.
#[derive(Debug, clap::Args)]
pub(crate) struct Verification {
    /// Verify `.signatures.json` with this key: a public key in PEM, or a secret with an HS algorithm.
    #[arg(long, value_name = "FILE")]
    verification_key: Option<PathBuf>,
    /// Key id that the signature must name.
    #[arg(long, value_name = "ID", requires = "verification_key")]
    verification_key_id: Option<String>,
    /// Algorithm of the signature [default: RS256, ES256, ES384 or EdDSA, by the key].
    #[arg(long, value_name = "NAME", requires = "verification_key", value_parser = parse_algorithm)]
    verification_alg: Option<Algorithm>,
    /// Scope that the signature must have.
    #[arg(long, value_name = "SCOPE", requires = "verification_key")]
    scope: Option<String>,
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::named(text).ok_or_else(|| {
        let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
        format!("`{text}` is not verified; there are {}", names.join(", "))
    })
}

impl Verification {
    /// Verifies the signature of a bundle, if that is wanted.
    fn verify(&self, bundle: &Bundle) -> Result<Option<Verified>, CliError> {
        let Some(path) = &self.verification_key else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|error| CliError::io("cannot read", path, &error))?;
        let key =
            Key::read(&bytes, self.verification_alg, self.verification_key_id.clone(), self.scope.clone())
                .map_err(|error| CliError::of(Kind::Unusable, &error).at(path.display()))?;
        // What cannot be trusted is not what cannot be read.
        let refused = |error| {
            let kind = match error {
                signature::SignatureError::Malformed { .. } | signature::SignatureError::Key { .. } => {
                    Kind::Unusable
                }
                _ => Kind::Untrusted,
            };
            CliError::of(kind, &error)
                .hint("take the bundle from whoever signed it, or name the key that signed it")
        };
        signature::verify(bundle, &key).map(Some).map_err(refused)
    }
}

/// Runs a policy command.
pub(crate) fn run(command: Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Publish { path, activate, overriding, verification, attribution } => {
            publish::publish(&path, activate, overriding.as_deref(), &verification, &attribution, context)
        }
        Command::Activate { reference, attribution } => publish::activate(&reference, &attribution, context),
        Command::List => list::list(context),
        Command::History { name } => list::history(name.as_deref(), context),
        Command::Show { reference, file } => list::show(&reference, file.as_deref(), context),
        Command::Diff { base, head, exit_code } => diff::run(&base, &head, exit_code, context),
        Command::Check { reference, verification } => check::check(&reference, &verification, context),
        Command::Test { reference, coverage, threshold } => {
            check::test(&reference, coverage, threshold, context)
        }
        Command::Schema => input::schema(context),
        Command::Input { event, example: _, out } => input::run(event.as_deref(), out.as_deref(), context),
    }
}

/// Finds the bundle of a reference; a path needs no ledger.
pub(crate) fn resolve(reference: &str, context: &Context) -> Result<Bundle, CliError> {
    let path = Path::new(reference);
    if reference.contains(std::path::is_separator) || (path.exists() && !context.ledger.exists()) {
        return Bundle::load(path).map_err(|error| CliError::from(error).at(reference));
    }
    Ok(registry::resolve(Some(&context.reader()?), reference)?)
}

/// Finds and compiles the bundle of a reference.
pub(crate) fn compile(reference: &str, context: &Context) -> Result<Policy, CliError> {
    Policy::compile(resolve(reference, context)?).map_err(|error| CliError::from(error).at(reference))
}
