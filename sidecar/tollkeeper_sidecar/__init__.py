"""The metering gateway: requests pass only with a hold on every hard limit, and are settled before their last byte.

From the pure to the edge:

- `openai_chat`, `openai_usage`, `openai_stream`, `sse`, `headers`, `routes`: what requests and answers say.
- `callers`, `admission`, `demand`, `refusals`, `settlement`: who may, what it may take, why not, what it took.
- `pools`, `desk`: leases, and who gets a hold out of them. `holder` carries the desk's questions to the authority.
- `spool_format`, `spool`, `recovery`: what survives a crash. `reporter`: usage on its way to the authority.
- `recording`, `turns`, `capturing`: the bodies of tenants that want them kept, beside all that.
- `meter`, `relay`, `handler`, `server`, `gateway`: one request, and the program around it.
"""

from tollkeeper_sidecar.errors import GatewayError, SpoolError, SpoolFull
from tollkeeper_sidecar.gateway import Gateway, RunningGateway
from tollkeeper_sidecar.settings import GatewaySettings, Upstream

__all__ = ["Gateway", "GatewayError", "GatewaySettings", "RunningGateway", "SpoolError", "SpoolFull", "Upstream"]
