/** Options of the plugin entry in OpenCode's configuration: `["opencode-agent-trace-sidecar", { "command": … }]`. */
export interface Options {
  /** The sidecar's command, as words or as one string; the variable AGENT_TRACE_SIDECAR wins over it. */
  command?: string | string[];
}

/** What OpenCode 1.x gives to a plugin, as far as it is used here. */
export interface ServerInput {
  client?: unknown;
  project?: unknown;
  directory: string;
  worktree: string;
}

/** Each hook forwards and returns at once; none throws. `dispose` waits at most 2 s for the last acknowledgement. */
export interface Hooks {
  event?: (input: { event: { id?: string; type: string; properties?: unknown } }) => void;
  "tool.execute.before"?: (input: unknown, output: unknown) => void;
  "tool.execute.after"?: (input: unknown, output: unknown) => void;
  "chat.message"?: (input: unknown, output: unknown) => void;
  "command.execute.before"?: (input: unknown, output: unknown) => void;
  dispose?: () => Promise<void>;
}

declare const plugin: {
  id: "agent-trace-sidecar";
  /** OpenCode 1.x; called once per directory. Returns no hooks when AGENT_TRACE_ENABLED is false. */
  server: (input: ServerInput, options?: Options) => Promise<Hooks>;
  /** OpenCode 2.x; called once per directory. Gives the cleanup, which waits as `dispose` does. */
  setup: (context: unknown) => Promise<(() => Promise<void>) | undefined>;
};

export default plugin;
