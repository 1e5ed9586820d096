"""The real ``chalice deploy``, with the calls answered that moto refuses: those with a Swagger 2 document."""

from botocore import handlers
from chalice.cli import main

from tests.support.deploy.front import answering, import_rest_api, remember_parameters

handlers.BUILTIN_HANDLERS.append(("before-parameter-build", remember_parameters))
handlers.BUILTIN_HANDLERS.append(("before-call.api-gateway.ImportRestApi", answering(import_rest_api)))
handlers.BUILTIN_HANDLERS.append(("before-call.api-gateway.PutRestApi", answering(lambda asked: (200, {}))))
main()
