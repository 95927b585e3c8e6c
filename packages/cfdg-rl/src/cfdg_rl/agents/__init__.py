"""IQL, PEX, APL and TD3+BC, and the networks and policies they are made of."""

from cfdg_rl.agents.apl import APL, APLSettings
from cfdg_rl.agents.iql import IQL, IQLSettings
from cfdg_rl.agents.pex import PEX, PEXSettings
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings

__all__ = ["APL", "IQL", "PEX", "TD3BC", "APLSettings", "IQLSettings", "PEXSettings", "TD3BCSettings"]
