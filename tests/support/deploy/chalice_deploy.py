"""Runs the real ``chalice deploy``, and answers the calls that pass a Swagger 2 document, because moto rejects them."""

from botocore import handlers
from chalice.cli import main

from tests.support.deploy.front import answering, import_rest_api, remember_parameters

handlers.BUILTIN_HANDLERS.append(("before-parameter-build", remember_parameters))
handlers.BUILTIN_HANDLERS.append(("before-call.api-gateway.ImportRestApi", answering(import_rest_api)))
handlers.BUILTIN_HANDLERS.append(("before-call.api-gateway.PutRestApi", answering(lambda request: (200, {}))))
main()
