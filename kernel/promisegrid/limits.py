"""Every bound of the kernel in one place, each with its reason.

A queue, map, depth, size or wait that is not bounded here is a defect. Sizes are bytes, times are
milliseconds unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one node. Hosts may hand in smaller ones; tests hand in tiny ones."""

    # -- formats ---------------------------------------------------------------------------------
    cbor_depth: int = 32
    """Nesting of one item; deeper input is refused before it can cost a stack."""
    block_bytes: int = 2 * 1024 * 1024
    """One block: twice the 1 MiB leaf of our UnixFS profile, what public networks carry at most."""
    frame_bytes: int = 2 * 1024 * 1024 + 64 * 1024
    """One link frame: a block and its envelope."""
    message_bytes: int = 1024 * 1024
    """One signed message. Anything larger travels as blocks, by CID."""
    text_chars: int = 1024
    """A human-readable text from a peer (a reason, a name): one screen line, not a novel."""
    fetch_bytes: int = 4 * 1024**3
    """One folder or file fetched from peers, all blocks together."""
    fetch_blocks: int = 262_144
    """Blocks of one folder or file fetched from peers."""
    dag_depth: int = 64
    """Levels of a file or folder DAG followed for one path."""

    # -- time ------------------------------------------------------------------------------------
    clock_skew_ms: int = 60_000
    """How far a sender's clock may differ from ours."""
    message_life_ms: int = 24 * 3600 * 1000
    """The longest lifetime (exp − now) of a message; the replay table need not remember longer."""
    ping_ms: int = 20_000
    """How often an open link is asked whether it is still there."""
    silent_ms: int = 65_000
    """A link that has said nothing for so long is closed: three pings unanswered."""
    awaited_ms: int = 4_000
    """How often a peer is asked whether it is still there while somebody waits for its answer."""
    awaited_silent_ms: int = 12_000
    """A peer awaited that has said nothing for so long is given up: longer than any honest turn takes, and
    than one frame of the largest kind at 2 Mbit/s."""
    hello_ms: int = 10_000
    """A peer that connects must have proved who it is by then."""
    hedge_ms: int = 1_000
    """How long one peer may take to send a block before another is asked as well."""
    fetch_ms: int = 10_000
    """How long peers may stay silent about a block we asked for."""
    fetch_most_ms: int = 120_000
    """How long one block may take of a peer that keeps sending others: 16 MiB before it, at 1 Mbit/s."""
    effect_ms: int = 120_000
    """How long a host may take for one effect other than a run or a compile."""
    call_ms: int = 10 * 60 * 1000
    """How long an asker waits for a peer's reply when its budget names no time."""
    prepare_ms: int = 180_000
    """Compiling one module, everything included."""

    gateway_ms: int = 15_000
    """How long gateways may stay silent about a block: theirs may have to be found first."""
    gateway_aside_ms: int = 60_000
    """How long a gateway is left alone that failed too often, at first; twice as long each time."""
    gateway_aside_max_ms: int = 3600 * 1000
    """The longest time, and that of one that sent wrong bytes."""
    routing_ms: int = 8_000
    """How long a router may take to say who provides a block: it may have to ask around itself."""
    provider_ms: int = 10 * 60 * 1000
    """How long who sent a block is asked first for the next: it has the rest of the file as well."""
    nobody_ms: int = 60_000
    """How long routers that knew nobody are not asked for the same block again."""
    announced_ms: int = 24 * 3600 * 1000
    """How long an announcement of what is published here holds; it is renewed at half that time."""
    announced_max_ms: int = 48 * 3600 * 1000
    """The longest that one of others is believed: as long as the public network does."""

    # -- links -----------------------------------------------------------------------------------
    links: int = 512
    """Open links: each costs a queue and a socket."""
    seen_rows: int = 256
    """Rows of one list in a view of the grid: more than a page draws, and a message of a few dozen KB."""
    greeting_per_address: int = 32
    """Links of one address that have not proved who they are: a household's tabs start at once, no more."""
    greeting: int = 128
    """Of all addresses: each may have half a frame in our memory, and the oldest makes room."""
    visitors: int = 1024
    """Connections to the HTTP port that are no links: pages being loaded, and whoever says nothing yet."""
    visitors_per_address: int = 128
    """Of these, one address's: a browser opens six for each page, and a household has a few."""
    visitors_blamed: int = 16
    """Connections of one address that may come to nothing in a minute; who has more stays outside for one."""
    visitor_ms: int = 15_000
    """How long the next whole request may take; an answer that nobody takes ends all after twice that."""
    link_credit: int = 64
    """Messages a peer may have unanswered on one link."""
    link_inbox: int = 1024
    """Frames of one link received and not yet read; beyond that the peer is cut off."""
    greeting_bytes: int = 4 * 1024 * 1024
    """All that is taken of a link before it is open: the greeting, and the first words right behind it."""
    link_bad_signatures: int = 8
    """Bad signatures after which a link is closed: verification is what a stranger can make us pay."""
    link_refusals_per_second: int = 32
    """Unsigned refusals sent on one link; past that we are being probed and stay silent."""
    link_misses_per_second: int = 64
    """Blocks nobody has for which a link makes us ask all our peers; past that we answer for ourselves."""
    link_verifies: int = 16
    """Signatures of one link being verified at once; its other messages wait."""
    progress_ms: int = 250
    """How often a peer is told how its call gets on; a call that is quicker needs no telling."""
    wants_per_link: int = 16
    """Blocks asked of one peer and not yet here: with 1 MiB leaves, 16 MiB in flight; a quarter at least."""
    want_ms: int = 1_000
    """How long a block may take to come before fewer are asked for at once."""
    wants_served_per_link: int = 64
    """Blocks one peer may have asked of us and not been sent."""
    blocks_in_hand: int = 16
    """Of these, in memory: read and on their way; and as many that others are asked for."""
    piece_bytes: int = 256 * 1024
    """The largest part of a block in one frame: what a call may have to wait for, 0.2 s at 10 Mbit/s."""
    gateways: int = 16
    """Gateways an owner may name: all may be asked for one block."""
    routers: int = 4
    """Routers an owner may name: all are asked for one block."""
    routers_at_once: int = 4
    """Blocks that routers are asked about at once."""
    providers: int = 16
    """Gateways taken from what one router says of one block: more are hardly tried within the time."""
    nobody: int = 1024
    """Blocks remembered as provided by nobody."""
    announced: int = 16_384
    """Roots that members announced here as theirs; each costs some 500 bytes of memory."""
    announced_per_member: int = 1024
    """Of these, one member's."""
    gateway_at_once: int = 8
    """Blocks asked of one gateway at once."""
    gateway_failures: int = 3
    """Failures in a row after which a gateway is left alone for a while."""
    want_hops: int = 1
    """A node asked for a block it lacks asks its own peers, once."""

    # -- circuits --------------------------------------------------------------------------------
    relay_hops: int = 4
    """Nodes a circuit may pass beyond the first."""
    relay_breadth: int = 3
    """Neighbours asked for a circuit, one after another: with the hops, what one dial may set going."""
    relay_window: int = 4 * 1024 * 1024
    """Bytes under way on one circuit and direction: what a node may have to hold for it."""
    relay_waiting: int = 32 * 1024 * 1024
    """What may wait here for a slow peer at the far end of one: the messages it gave credit for."""
    dial_ms: int = 15_000
    """How long a neighbour may take to make a circuit, its own asking included, for which each has half."""
    circuits: int = 1024
    """Circuits that end here or pass through."""
    circuits_per_link: int = 64
    """Of these, what one peer asked for."""
    near: int = 64
    """Members a node tells its neighbours it is linked to."""
    near_ms: int = 500
    """How long changes of who is near gather before the neighbours are told; the first in a while a tenth."""
    seek_hops: int = 8
    """Nodes a question for a point of the key space may pass; with 25 links each halves its way some nine
    times in two steps, so that a million members are in reach."""
    seek_ms: int = 2_000
    """How long each hop of it may take."""
    seeks_per_link: int = 16
    """Questions of one peer under way at once."""
    seeks_per_second: int = 16
    """Questions of one peer a second: each costs a message and its answer on every node it passes."""
    overlay_halves: int = 16
    """Halves of the key space with a link of their own: with 2^16 members the 17th holds hardly anybody, and
    whoever mints keys near this one fills no more."""
    overlay_chance: int = 8
    """Links to members found by chance: shortcuts, and a way around whoever surrounds this key."""
    overlay_most: int = 64
    """Links of any kind above which none is made by chance, and those that another could replace are given
    up; `near` tells no more either."""
    overlay_ms: int = 5_000
    """Between one look for a link and the next: a member has its links within some two minutes."""
    overlay_idle_ms: int = 10 * 60 * 1000
    """The same, when for long nobody new was found."""
    direct: int = 8
    """Data channels to other members, open or being made: each is a connection of the browser's."""
    direct_ms: int = 20_000
    """How long one may take from its description to the end of its greeting."""
    direct_retry_ms: int = 2_000
    """How long a peer is left alone with which no channel came about, at first; twice as long each time."""
    direct_retry_max_ms: int = 10 * 60 * 1000
    """The longest time: between many networks there is none, and each attempt costs a handful of packets."""
    description_bytes: int = 16 * 1024
    """One session description: a browser's takes some 600 bytes, and 100 for each address."""

    # -- memory ----------------------------------------------------------------------------------
    replay_entries: int = 65_536
    """(iss, cti) pairs remembered until they expire; a full table refuses with `busy`."""
    replay_per_sender: int = 16_384
    """Of these, one sender's: a quarter, so that no member can shut out the others."""
    replay_reply_bytes: int = 16 * 1024 * 1024
    """Reply bytes kept for repeats, in total; the oldest are dropped and made again when asked for."""
    replay_kept: int = 4096
    """Of these, calls that changed something and are known after a restart; a sender may have a quarter."""
    replay_kept_bytes: int = 16 * 1024
    """One reply to such a call: all of them together take 64 MiB of store and memory at most."""
    verdicts: int = 4096
    """Remembered verdicts on exact bytes (membership promises, receipts)."""
    calls: int = 1024
    """Calls remembered as read, so that the next one that differs in its times alone is read quickly."""
    call_bytes: int = 2048
    """The longest of them; read, one takes some ten times its bytes."""
    grants: int = 1024
    """Chains of promises that held, remembered as read, so that each further call spares reading them."""
    grant_bytes: int = 4096
    """The longest of them; read, one takes some ten times its bytes."""
    replies_bytes: int = 4 * 1024 * 1024
    """Replies to remembered tasks, written once and kept, all together."""
    memo_recent: int = 4096
    """Answers kept in memory, so that a repeat costs no look-up."""
    memo_recent_bytes: int = 4096
    """The longest of them; a value in memory takes several times what it takes written."""
    nested_depth: int = 8
    """Messages inside messages: each level is a signature, a capability and a run that wait for the next."""
    nested_total: int = 32
    """Messages inside one message, all together: what one credit may set going."""
    carried: int = 4096
    """Messages of unknown protocols carried for others."""
    carried_bytes: int = 1024**3
    """The most an owner can promise to carry."""
    edit_targets: int = 4096
    """Targets of DAG edits; one member may begin a quarter."""
    edit_bytes: int = 64 * 1024
    """One edit: a page of them is read from the store for every query."""
    edits_of_target: int = 65_536
    """Edits of one target."""
    edit_heads: int = 256
    """Heads of one target: each stands in every reply about it."""
    subscriptions_per_link: int = 16
    """Targets one link follows."""
    scenarios: int = 4096
    """Scenario trees kept; a quarter for one member."""
    disputes: int = 1024
    """Tasks on which peers disagreed, evidence kept."""
    bans: int = 4096
    """Keys an owner may ban; each costs a row and a hundred bytes."""
    invitations: int = 1024
    """Open invitations."""
    promises: int = 16_384
    """Capability promises known: given, held or shown; each costs a row and a few hundred bytes."""
    promises_per_holder: int = 1024
    """Of these, one issuer's to one holder: no peer can fill the book alone."""
    promise_shown_ms: int = 7 * 24 * 3600 * 1000
    """How long an expired promise is still listed as such, before its rows go."""
    uses_recent: int = 16_384
    """Messages that used one promise and have not expired yet: known by name, so that none counts twice."""
    revocations: int = 4096
    """Revocations heard from others and not yet expired; each member's word takes at most a sixteenth."""
    revocations_told: int = 64
    """Revocations of memberships, the latest first, that a peer is told when it connects."""
    deferred: int = 1024
    """Calls that wait for the owner to keep or break them."""
    deferred_per_holder: int = 64
    """Of these, one holder's."""
    statements: int = 4096
    """Statements about promises listed in the order of time; older ones remain as blocks."""
    await_ms: int = 30_000
    """How long a peer may wait for news of a deferred call before it has to ask again."""

    # -- running ---------------------------------------------------------------------------------
    runs: int = 4
    """Programs running at once; a host hands in what its machine can bear."""
    map_tasks: int = 100_000
    """Tasks spread at once: each waits in memory, with its result."""
    runs_waiting: int = 256
    """Tasks waiting for their turn, over all askers."""
    modules: int = 64
    """Modules known to be ready, by what they import and export."""
    module_names: int = 1024
    """Names that such a module imports and exports at most: some hundred kilobytes."""
    code_bytes: int = 64 * 1024 * 1024
    """One module."""
    input_bytes: int = 256 * 1024 * 1024
    """Standard input and the files of one task together."""
    output_bytes: int = 256 * 1024 * 1024
    """Standard output, error and changed files of one task together."""
    memory_bytes: int = 1024 * 1024 * 1024
    """Linear memory of one program, unless its budget says less."""
    run_ms: int = 60_000
    """Wall-clock time of one program, unless its budget says otherwise."""
    run_ms_max: int = 3600 * 1000
    """The longest wall-clock time a budget may ask for."""
    tree_nodes: int = 65_536
    """Files and folders of one task's tree."""
    args: int = 1024
    """Arguments of one call."""
    args_bytes: int = 512 * 1024
    """All arguments of one call, encoded."""
    recollect_hops: int = 1
    """How often a question for receipts may be passed on: as far as the result they name can be fetched."""
    recollect_breadth: int = 8
    """Neighbours asked for receipts of one task: with the hops, what one run may set going."""
    recollect_ms: int = 250
    """How long they may take, for each hop, before the task is run instead."""
    receipts_told: int = 8
    """Receipts of one task told at once, each by another executor."""
    inline_bytes: int = 256 * 1024
    """Result blocks sent along with a reply, to spare the asker a round trip."""

    # -- PromiseBase -----------------------------------------------------------------------------
    transaction_reads: int = 256
    """Keys and ranges one transaction reads: each is read again with each further one, and at the end."""
    transaction_writes: int = 4096
    """Keys and blocks one transaction writes."""
    transaction_bytes: int = 64 * 1024 * 1024
    """What one transaction writes, all together: it waits in memory until the end."""
    walk_blocks: int = 1_000_000
    """Blocks and links of one DAG walked at once, at about 100 bytes of memory each; it holds a terabyte."""
    backup_bytes: int = 64 * 1024 * 1024
    """Pins, streams, keys and values of one backup: they are in memory before its first byte is written."""
    stream_walk: int = 65_536
    """Heads followed back to find out whether one rests on another."""
    collect_blocks: int = 4_000_000
    """Blocks one collection tells apart, at about 80 bytes of memory each."""
    fresh_blocks: int = 262_144
    """Blocks stored lately that a collection leaves alone; while more are stored there is no collecting."""
    fresh_ms: int = 10 * 60 * 1000
    """How long a stored block waits to be pinned before a collection may take it."""

    # -- topics ----------------------------------------------------------------------------------
    topics: int = 256
    """Topics a node follows, and a peer may say it does."""
    topic_entries: int = 131_072
    """Entries kept of one topic, the latest; each costs a row, a block and 100 bytes of memory."""
    topics_carried_bytes: int = 64 * 1024 * 1024
    """Entries kept for others, of topics this node does not follow itself; the oldest make room."""
    topic_queue: int = 4096
    """Entries of one topic that wait for one peer; it gets the others when they are compared."""
    topics_told_ms: int = 500
    """How long a peer is left alone that was told what is followed: each change may go to every peer."""
    topics_again_ms: int = 30_000
    """When a peer is asked again that failed to compare a topic, or to hear what is followed."""

    # -- copies ----------------------------------------------------------------------------------
    stored_bytes: int = 16 * 1024**3
    """The most one call has kept for somebody, whatever its promise says."""
    copies: int = 4096
    """Things an owner wants copies of."""
    copies_check_ms: int = 10 * 60 * 1000
    """How often those who keep a copy are asked for a leaf of it."""
    copies_answer_ms: int = 15_000
    """How long they may take: to read it, not to fetch it from afar."""
