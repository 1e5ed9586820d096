"""Parts of a CloudFormation template with their values, for some values of the parameters.

Source: AWS CloudFormation User Guide, "Intrinsic function reference" and "Pseudo parameters reference".
"""

import re
from collections.abc import Mapping
from typing import Any

REMOVED = object()


class Stack:
    """A template and the parameters of a stack. ARNs and ids of resources are made of the resources' names.

    Pseudo parameters have their names as values, except the stack's name, if it is given.
    """

    def __init__(
        self, template: Mapping[str, Any], parameters: Mapping[str, str], name: str = "AWS::StackName"
    ) -> None:
        defaults = {key: each.get("Default", "") for key, each in template["Parameters"].items()}
        unknown = parameters.keys() - defaults.keys()
        assert not unknown, unknown
        self._values = {key: _text(value) for key, value in defaults.items()} | dict(parameters)
        self._values["AWS::StackName"] = name
        self._conditions = template["Conditions"]

    def value(self, part: Any) -> Any:
        """Returns a part of the template as CloudFormation passes it on."""
        if isinstance(part, list):
            return [inner for inner in map(self.value, part) if inner is not REMOVED]
        if not isinstance(part, dict):
            return part
        if len(part) == 1:
            ((name, argument),) = part.items()
            if name in _FUNCTIONS:
                return _FUNCTIONS[name](self, argument)
        values = {name: self.value(inner) for name, inner in part.items()}
        return {name: value for name, value in values.items() if value is not REMOVED}

    def holds(self, condition: str) -> bool:
        return bool(self.value(self._conditions[condition]))

    def _ref(self, name: str) -> Any:
        return REMOVED if name == "AWS::NoValue" else self._values.get(name, name)

    def _if(self, argument: list[Any]) -> Any:
        return self.value(argument[1] if self.holds(argument[0]) else argument[2])

    def _sub(self, argument: Any) -> str:
        text, values = (argument, {}) if isinstance(argument, str) else argument
        own = {name: self.value(value) for name, value in values.items()}
        return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", lambda m: own[m[1]] if m[1] in own else self._ref(m[1]), text)

    def _join(self, argument: list[Any]) -> str:
        parts = self.value(argument[1])
        return str(argument[0]).join(parts.split(",") if isinstance(parts, str) else parts)


_FUNCTIONS: dict[str, Any] = {
    "Ref": Stack._ref,
    "Fn::If": Stack._if,
    "Fn::Sub": Stack._sub,
    "Fn::Join": Stack._join,
    "Fn::Split": lambda stack, argument: stack.value(argument[1]).split(argument[0]),
    "Fn::GetAtt": lambda _, argument: ".".join(argument),
    "Fn::Equals": lambda stack, argument: stack.value(argument[0]) == stack.value(argument[1]),
    "Fn::Not": lambda stack, argument: not stack.value(argument[0]),
    "Fn::And": lambda stack, argument: all(map(stack.value, argument)),
    "Condition": Stack.holds,
}


def _text(value: Any) -> str:
    return str(value)
