"""The real ``chalice deploy``, with one call answered before moto, which refuses it: ImportRestApi."""

from botocore import handlers
from chalice.cli import main

from tests.deploy.front import answering, import_rest_api, remember_parameters

handlers.BUILTIN_HANDLERS.append(("before-parameter-build", remember_parameters))
handlers.BUILTIN_HANDLERS.append(("before-call.api-gateway.ImportRestApi", answering(import_rest_api)))
main()
