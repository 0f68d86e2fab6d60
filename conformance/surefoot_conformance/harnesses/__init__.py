"""The harnesses of what comes with surefoot, by the name that ``surefoot certify`` takes."""

from typing import Final

__all__ = ["KNOWN"]

_VERIFIERS: Final = "surefoot_conformance.harnesses.verifiers"
KNOWN: Final = {
    "agent-framework-core": "surefoot_conformance.harnesses.agent_framework:AgentFrameworkHarness",
    "autogen-agentchat": "surefoot_conformance.harnesses.autogen:AutoGenHarness",
    "claims": f"{_VERIFIERS}:ClaimsHarness",
    "crewai": "surefoot_conformance.harnesses.crewai:CrewAIHarness",
    "encrypted": "surefoot_conformance.harnesses.encrypted:EncryptedHarness",
    "function": "surefoot_conformance.judges:FunctionHarness",
    "langchain": "surefoot_conformance.harnesses.langchain:LangChainHarness",
    "langgraph": "surefoot_conformance.harnesses.langgraph:LangGraphHarness",
    "llama-index-core": "surefoot_conformance.harnesses.llama_index:LlamaIndexHarness",
    "llm": f"{_VERIFIERS}:LlmHarness",
    "memory": "surefoot_conformance.keepers:MemoryHarness",
    "openai-agents": "surefoot_conformance.harnesses.openai_agents:OpenAIAgentsHarness",
    "postgres": "surefoot_conformance.harnesses.postgres:PostgresHarness",
    "pydantic-ai-slim": "surefoot_conformance.harnesses.pydantic_ai:PydanticAIHarness",
    "python": "surefoot_conformance.harnesses.python:PythonHarness",
    "quorum": f"{_VERIFIERS}:QuorumHarness",
    "rules": f"{_VERIFIERS}:RulesHarness",
    "schema": f"{_VERIFIERS}:SchemaHarness",
    "semantic-kernel": "surefoot_conformance.harnesses.semantic_kernel:SemanticKernelHarness",
    "sqlite": "surefoot_conformance.keepers:SqliteHarness",
    "tiered": f"{_VERIFIERS}:TieredHarness",
}
