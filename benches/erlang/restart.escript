#!/usr/bin/env escript
%% An OTP supervisor with one worker of blank state. For each line of standard input, a number, it
%% crashes the worker that often, and answers the nanoseconds from each crash to the first reply of
%% the restarted worker. Its argument says what becomes of OTP's crash reports: `quiet` makes none,
%% `reports` formats and writes them to standard error, as OTP does by default.
-module(restart).
-mode(compile).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2, start_worker/1]).

main([Reports]) ->
    report(Reports),
    process_flag(trap_exit, true),
    Child = #{id => worker, start => {?MODULE, start_worker, [self()]}},
    Flags = #{strategy => one_for_one, intensity => 1000000000, period => 1},
    {ok, _} = supervisor:start_link(?MODULE, {supervisor, {Flags, [Child]}}),
    receive {up, Worker} -> pong = gen_server:call(Worker, ping), serve(Worker) end.

report("quiet") -> ok = logger:set_primary_config(level, none);
report("reports") ->
    ok = logger:remove_handler(default),
    ok = logger:add_handler(default, logger_std_h, #{config => #{type => standard_error}}).

serve(Worker) ->
    case io:get_line("") of
        eof -> ok;
        Line ->
            Count = list_to_integer(string:trim(Line)),
            serve(crashes(Count, Worker, []))
    end.

crashes(0, Worker, Nanos) ->
    io:format("~s~n", [lists:join(" ", [integer_to_list(N) || N <- Nanos])]),
    Worker;
crashes(Count, Worker, Nanos) ->
    Start = erlang:monotonic_time(nanosecond),
    gen_server:cast(Worker, crash),
    receive {up, Next} -> pong = gen_server:call(Next, ping) end,
    Stop = erlang:monotonic_time(nanosecond),
    crashes(Count - 1, Next, [Stop - Start | Nanos]).

start_worker(Client) -> gen_server:start_link(?MODULE, {worker, Client}, []).

init({supervisor, Spec}) -> {ok, Spec};
init({worker, Client}) -> Client ! {up, self()}, {ok, blank}.

handle_call(ping, _From, State) -> {reply, pong, State}.

handle_cast(crash, _State) -> exit(crash).
