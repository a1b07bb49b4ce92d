"""skiff: a container engine in Python that speaks the Docker Engine API.

    import skiff
    print(skiff.run("busybox", ["echo", "hello"]).text)

What programs use comes from skiff.library, which is loaded at the first use of a name: `import skiff`
alone, on which every command line and the engine stand, loads nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.client.connection import EngineError as EngineError
    from skiff.library.container import Container as Container
    from skiff.library.container import ContainerFailed as ContainerFailed
    from skiff.library.container import Finished as Finished
    from skiff.library.engine import Engine as Engine
    from skiff.library.engine import connect as connect
    from skiff.library.engine import default as _default
    from skiff.library.events import Event as Event
    from skiff.library.function import Call as Call
    from skiff.library.function import Function as Function
    from skiff.library.function import function as function
    from skiff.library.images import BuildFailed as BuildFailed
    from skiff.library.images import Image as Image
    from skiff.library.images import LoadFailed as LoadFailed
    from skiff.library.images import PullFailed as PullFailed
    from skiff.library.images import PushFailed as PushFailed
    from skiff.library.networks import Network as Network
    from skiff.library.results import FunctionFailed as FunctionFailed
    from skiff.library.volumes import Volume as Volume

    _engine = _default()
    run, start, exec, create = _engine.run, _engine.start, _engine.exec, _engine.create
    container, containers, logs = _engine.container, _engine.containers, _engine.logs
    build, image, images, remove_image = _engine.build, _engine.image, _engine.images, _engine.remove_image
    pull, push, tag = _engine.pull, _engine.push, _engine.tag
    save, load, import_image = _engine.save, _engine.load, _engine.import_image
    volume, volumes, create_volume = _engine.volume, _engine.volumes, _engine.create_volume
    network, networks, create_network = _engine.network, _engine.networks, _engine.create_network
    events = _engine.events


# name → module of skiff.library that has it; "": a verb of the default engine
_LIBRARY = {
    "BuildFailed": "images",
    "Call": "function",
    "Container": "container",
    "ContainerFailed": "container",
    "Engine": "engine",
    "EngineError": "engine",
    "Event": "events",
    "Finished": "container",
    "Function": "function",
    "FunctionFailed": "results",
    "Image": "images",
    "LoadFailed": "images",
    "Network": "networks",
    "PullFailed": "images",
    "PushFailed": "images",
    "Volume": "volumes",
    "build": "",
    "connect": "engine",
    "container": "",
    "containers": "",
    "create": "",
    "create_network": "",
    "create_volume": "",
    "events": "",
    "exec": "",
    "function": "function",
    "image": "",
    "images": "",
    "import_image": "",
    "load": "",
    "logs": "",
    "network": "",
    "networks": "",
    "pull": "",
    "push": "",
    "remove_image": "",
    "run": "",
    "save": "",
    "start": "",
    "tag": "",
    "volume": "",
    "volumes": "",
}


if not TYPE_CHECKING:  # a type checker knows the names from above, and tells of others

    def __getattr__(name: str) -> object:
        if name not in _LIBRARY:
            raise AttributeError(f"module 'skiff' has no attribute {name!r}")
        from importlib import import_module

        module = import_module(f"skiff.library.{_LIBRARY[name] or 'engine'}")
        return getattr(module if _LIBRARY[name] else module.default(), name)


def __dir__() -> list[str]:
    return ["__version__", *_LIBRARY]
