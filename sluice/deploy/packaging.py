"""The template of the stack, and the code of its functions, as ``chalice package`` builds them."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from chalice.awsclient import TypedAWSClient
from chalice.deploy.appgraph import ApplicationGraphBuilder, DependencyBuilder
from chalice.deploy.deployer import create_build_stage
from chalice.package import (
    PackageOptions,
    ResourceBuilder,
    SAMTemplateGenerator,
    TemplateDeepMerger,
    YAMLTemplateSerializer,
)
from chalice.utils import OSUtils

from sluice.deploy.account import AwsAccount, AwsError
from sluice.deploy.chalice_deployer import Messages, configuration
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.stack import CODE_PARAMETER
from sluice.deploy.stage import PACKAGED, Refusal
from sluice.deploy.swagger import StackedSwagger

ADDITIONS = "resources.yaml"
"""File, beside Chalice's configuration, with everything that Chalice does not generate."""

Template = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Package:
    """A template whose functions name the local path of their code, and that code as a zip archive."""

    template: Template
    code: bytes

    @property
    def code_version(self) -> str:
        """Hash of the files in the archive. The archive itself also has their times, so it differs with each build."""
        with zipfile.ZipFile(BytesIO(self.code)) as archive:
            files = sorted((each.filename, each.CRC, each.file_size) for each in archive.infolist())
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def located(template: Template, code: str | dict[str, Any]) -> Template:
    """Returns the template whose functions have their code at this URI in S3, or in this bucket under this key."""
    resources = {
        name: {**each, "Properties": {**each["Properties"], "CodeUri": code}}
        if each["Type"] == "AWS::Serverless::Function"
        else each
        for name, each in template["Resources"].items()
    }
    return {**template, "Resources": resources}


def published(template: Template, key: str) -> Template:
    """Returns the template with parameters for the bucket and the key of the code, which is ``key`` by default."""
    where = {"Bucket": {"Ref": CODE_PARAMETER}, "Key": {"Ref": "CodeKey"}}
    parameters = {
        CODE_PARAMETER: {
            "Type": "String",
            "MinLength": 3,
            "Description": "S3 bucket, in the stack's region, to which you have uploaded the code of the functions.",
        },
        "CodeKey": {"Type": "String", "Default": key, "Description": "Key of the code in this bucket."},
    }
    return {**located(template, where), "Parameters": {**parameters, **template["Parameters"]}}


def yaml_of(template: Template) -> str:
    return str(YAMLTemplateSerializer().serialize_template(template))


def _check(settings: Mapping[str, str], project: Project) -> None:
    """Raises Refusal for settings that would leave the API of a stack open, or with other networks than its own."""
    where = f"from stage {PACKAGED} in {project.config_file}"
    if (auth := settings.get("ADMIN_AUTH", "token")) != "token":
        raise Refusal(
            f"setting ADMIN_AUTH={auth}: the admin API of a stack authenticates by token. Remove the setting {where}, "
            "set it to token with 'sluice setup --set', or deploy without a stack"
        )
    if "API_NETWORKS" in settings:
        raise Refusal(f"setting API_NETWORKS: the stack's parameter ApiNetworks determines it. Remove it {where}")


def package(
    account: AwsAccount, project: Project, report: Callable[[str], None], settings: Mapping[str, str]
) -> Package:
    """Builds the package from a checkout, without calling AWS.

    ``settings`` are environment variables of the functions, besides those that the template and the checkout have.
    Raises AwsError if a dependency cannot be installed, and Refusal if the directory is not a checkout of Sluice or if
    the settings cannot be those of a stack.
    """
    if account.session is None:
        raise AwsError("this account has no session for Chalice")
    packaged = project.config()
    stage = packaged.get("stages", {}).get(PACKAGED)
    if stage is None:
        raise Refusal(
            f"{project.config_file} has no stage {PACKAGED!r}, from which the stack is packaged: restore it, as the "
            "release has it"
        )
    stage["environment_variables"] = {**stage.get("environment_variables", {}), **settings}
    _check(stage["environment_variables"], project)
    config = configuration(project, PACKAGED, packaged)
    build = create_build_stage(OSUtils(), Messages(report), StackedSwagger(), config)
    builder = ResourceBuilder(ApplicationGraphBuilder(), DependencyBuilder(), build)
    generator = SAMTemplateGenerator(config, PackageOptions(TypedAWSClient(account.session)))
    generated = generator.generate(builder.construct_resources(config, PACKAGED))
    additions = project.chalice / ADDITIONS
    loaded = YAMLTemplateSerializer().load_template(additions.read_text(), str(additions))
    template: Template = TemplateDeepMerger().merge(loaded, generated)
    (code,) = {
        each["Properties"]["CodeUri"]
        for each in template["Resources"].values()
        if each["Type"] == "AWS::Serverless::Function"
    }
    return Package(template, Path(code).read_bytes())
