"""Checks before a deployment: whatever would make it fail halfway is found before anything has been changed."""

from collections.abc import Iterator
from dataclasses import dataclass

from sluice.deploy.account import AwsAccount, attempting, missing_ok
from sluice.deploy.apply import survey
from sluice.deploy.chalice_record import entries_of, recorded_names
from sluice.deploy.deployed import Deployed, lambda_name, owner_of
from sluice.deploy.plan import StepAction, to_set_up
from sluice.deploy.policies import deployed_functions
from sluice.deploy.resources import resources_of
from sluice.deploy.resources.chalice_config import ChaliceStage, Project
from sluice.deploy.runtime import RECOMMENDED, outdated, runtime_of_chalice
from sluice.deploy.stage import API, TAG, Refusal, Stage

UNRESERVABLE = 100
"""Concurrent executions that AWS keeps unreserved in an account ("Configuring reserved concurrency", Lambda Developer
Guide)."""


@dataclass(frozen=True, slots=True)
class Reservations:
    """The concurrent executions that the functions reserve, and whether the account has room for them."""

    needed: int
    available: int
    """Executions of the account that other functions have not reserved."""
    own: int
    """Those that the stage's functions reserve at present."""

    @property
    def fit(self) -> bool:
        return self.available - self.needed >= UNRESERVABLE

    @property
    def note(self) -> str:
        """Consequences of an account without room; empty if there is room."""
        if self.fit:
            return ""
        return (
            f"the account has {self.available} concurrent executions left, too few to reserve {self.needed} and leave "
            f"{UNRESERVABLE}: nothing is reserved. Everything works, but in an attack Sluice may leave too few for "
            "your own functions, or they for Sluice. Ask AWS for 1,000, then deploy again"
        )


def reservations(stage: Stage, account: AwsAccount, project: Project) -> Reservations:
    """Returns what the stage reserves, and what the account has left for it. Raises AwsError."""
    client, names = account.client("lambda"), deployed_functions(stage)
    own = 0
    with attempting("read the account's concurrent executions"):
        # A stack names the function of the API like the others.
        for function in (*(lambda_name(stage, name) for name in names), stage.function(API)):
            with missing_ok("ResourceNotFoundException"):
                answer = client.get_function_concurrency(FunctionName=function)
                own += answer.get("ReservedConcurrentExecutions", 0)
        unreserved = client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    return Reservations(sum(project.reserved(stage.name, name) for name in names), unreserved + own, own)


def check(stage: Stage, account: AwsAccount, project: Project, deployed: Deployed) -> None:
    """Raises Refusal, naming the next step, if the stage cannot be deployed, and AwsError."""
    for name, function in deployed.functions.items():
        owner = owner_of(function, account)
        if owner != stage.name:
            raise Refusal(
                f"function {function['FunctionName']} exists, and is not {name} of stage {stage.name} (its tag {TAG}: "
                f"{owner}): choose another --stage, or remove the function"
            )
    missing = [
        f"{step.resource.kind} {step.resource.name}"
        for step in to_set_up(survey(resources_of(stage, now=0, project=project), account))
        if step.action not in (StepAction.KEEP, StepAction.LEAVE) and not isinstance(step.resource, ChaliceStage)
    ]
    if missing:
        raise Refusal(
            f"stage {stage.name} is not as it was set up: {', '.join(missing)}. First run: {stage.command('setup')}"
        )


def notes(
    stage: Stage, project: Project, deployed: Deployed, sources: dict[str, str], reserved: Reservations
) -> Iterator[str]:
    """Yields what an operator should know before the functions are deployed."""
    if reserved.note:
        yield reserved.note
    runtime = runtime_of_chalice()
    if not deployed.functions and outdated(runtime):
        yield (
            f"the functions will run on {runtime}, the Python of this environment, which AWS deprecates before "
            f"{RECOMMENDED}. Deploy from a {RECOMMENDED} environment, if you can"
        )
    others = sorted({function["Runtime"] for function in deployed.functions.values()} - {runtime})
    if others:
        yield f"the functions run on {', '.join(others)}, and will run on {runtime}, the Python of this environment"
    exist = {entry["name"] for entry in entries_of(stage, deployed, sources)}
    recorded = recorded_names(project, stage.name)
    if lost := sorted(exist - recorded):
        yield f"{len(lost)} parts exist that Chalice's record does not name, such as {lost[0]}: they are adopted"
    if gone := sorted(recorded - exist):
        yield f"{len(gone)} parts that Chalice's record names do not exist, such as {gone[0]}: they are created"
