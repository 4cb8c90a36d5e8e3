------------------------------- MODULE leases -------------------------------
(***************************************************************************)
(* Leases of one hard account: what holders, their spools, the network,    *)
(* the provider and the authority may do, one step at a time, and what     *)
(* holds after every step. docs/leases.md reads it aloud and says what was *)
(* checked; tests/model steps through the real code beside it.             *)
(*                                                                         *)
(* What the account holds and has unreconciled is never stored here: it is *)
(* the sum of leases that live and of leases that lapsed.                  *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences

CONSTANTS
  Holders,      \* holders of leases: gateways, sidecars
  Requests,     \* requests that may ever be made
  Cap,          \* allocation + rollover + grants - minimum (B1)
  Hold,         \* what one request is bound by: the provider keeps it
  Wants,        \* amounts that a holder may ask for; 0 only renews
  MaxCalls      \* lease calls of one holder

ASSUME /\ Cap \in Nat /\ Hold \in Nat \ {0} /\ MaxCalls \in Nat
       /\ Wants \subseteq Nat

Life  == {"alive", "crashed", "vanished", "ended"}
Stage == {"new", "open", "served", "settled"}
NoCall == [sequence |-> 0, want |-> 0, returned |-> 0]

VARIABLES
  spent,        \* authority: charged
  outstanding,  \* authority: what each holder may still spend
  lapsed,       \* authority: that holder's lease counts as unreconciled
  closed,       \* authority: that holder has ended
  heard,        \* authority: the last sequence number of each holder
  booked,       \* authority: requests that are charged
  life,         \* holders: their lives; "crashed" leaves a spool behind
  free,         \* holders: leased and not handed out
  sequence,     \* holders: number of their last call
  pending,      \* holders: the call they wait for, or NoCall
  stage, owner, used,  \* requests; in the spool of their owner
  calls,        \* network: calls ever sent. They stay: late, doubled, lost
  answers       \* network: answers that somebody waits for

authority == <<spent, outstanding, lapsed, closed, heard, booked>>
holders   == <<life, free, sequence, pending>>
requests  == <<stage, owner, used>>
network   == <<calls, answers>>
vars      == <<authority, holders, requests, network>>

RECURSIVE SumOver(_, _)
SumOver(S, f) == IF S = {} THEN 0
                 ELSE LET x == CHOOSE y \in S : TRUE
                      IN  f[x] + SumOver(S \ {x}, f)

Held         == SumOver({h \in Holders : ~lapsed[h]}, outstanding)
Unreconciled == SumOver({h \in Holders : lapsed[h]}, outstanding)
Available    == Cap - spent - Unreconciled - Held
Provider     == SumOver(Requests, used)
Least(a, b)  == IF a < b THEN a ELSE b
Most(a, b)   == IF a > b THEN a ELSE b

InFlight(h)  == {r \in Requests : owner[r] = h /\ stage[r] \in {"open", "served"}}
Unbooked(h)  == {r \in Requests : owner[r] = h /\ stage[r] = "settled"} \ booked
Kept(h)      == Hold * Cardinality(InFlight(h))

Init ==
  /\ spent = 0 /\ booked = {}
  /\ outstanding = [h \in Holders |-> 0] /\ lapsed = [h \in Holders |-> FALSE]
  /\ closed = [h \in Holders |-> FALSE]  /\ heard = [h \in Holders |-> 0]
  /\ life = [h \in Holders |-> "alive"]  /\ free = [h \in Holders |-> 0]
  /\ sequence = [h \in Holders |-> 0]    /\ pending = [h \in Holders |-> NoCall]
  /\ stage = [r \in Requests |-> "new"]  /\ used = [r \in Requests |-> 0]
  /\ owner = [r \in Requests |-> CHOOSE h \in Holders : TRUE]
  /\ calls = {} /\ answers = {}

-----------------------------------------------------------------------------
\* Holders. A recall makes a holder call and return all that is free. It may
\* do so at any time, so being asked to is no step of its own.

Call(h, want, returned) ==
  /\ life[h] = "alive" /\ pending[h] = NoCall /\ sequence[h] < MaxCalls
  /\ returned \in {0, free[h]}
  /\ LET call == [holder |-> h, sequence |-> sequence[h] + 1,
                  want |-> want, returned |-> returned]
     IN  /\ calls' = calls \cup {call}
         /\ pending' = [pending EXCEPT ![h] =
              [sequence |-> call.sequence, want |-> want, returned |-> returned]]
  /\ sequence' = [sequence EXCEPT ![h] = @ + 1]
  /\ free' = [free EXCEPT ![h] = @ - returned]
  /\ UNCHANGED <<authority, life, requests, answers>>

\* Loss between the durable grant and its holder: it cannot know whether the
\* call was booked, so what it returned stays returned, and what it was
\* granted stays at the authority until it is closed. Both are safe.
GiveUp(h) ==
  /\ life[h] = "alive" /\ pending[h] # NoCall
  /\ pending' = [pending EXCEPT ![h] = NoCall]
  /\ answers' = {a \in answers : a.holder # h}
  /\ UNCHANGED <<authority, life, free, sequence, requests, calls>>

Hear(a) ==
  /\ a \in answers /\ life[a.holder] = "alive"
  /\ pending[a.holder].sequence = a.sequence
  /\ free' = [free EXCEPT ![a.holder] = @ + a.granted]
  /\ pending' = [pending EXCEPT ![a.holder] = NoCall]
  /\ answers' = {b \in answers : b.holder # a.holder}
  /\ UNCHANGED <<authority, life, sequence, requests, calls>>

Begin(h, r) ==
  /\ life[h] = "alive" /\ stage[r] = "new" /\ free[h] >= Hold
  /\ stage' = [stage EXCEPT ![r] = "open"] /\ owner' = [owner EXCEPT ![r] = h]
  /\ free' = [free EXCEPT ![h] = @ - Hold]
  /\ UNCHANGED <<authority, life, sequence, pending, used, network>>

\* The provider keeps the bound; whether the holder still lives it does not ask.
Serve(r, amount) ==
  /\ stage[r] = "open" /\ amount \in 1..Hold
  /\ stage' = [stage EXCEPT ![r] = "served"] /\ used' = [used EXCEPT ![r] = amount]
  /\ UNCHANGED <<authority, holders, owner, network>>

\* Into the spool, before the caller has the answer's last byte. Of a holder
\* that is gone, somebody may find out later what a request used.
Settle(r) ==
  /\ stage[r] = "served" /\ life[owner[r]] # "crashed"
  /\ stage' = [stage EXCEPT ![r] = "settled"]
  /\ free' = IF life[owner[r]] = "alive"
             THEN [free EXCEPT ![owner[r]] = @ + Hold - used[r]] ELSE free
  /\ UNCHANGED <<authority, life, sequence, pending, owner, used, network>>

Die(h, how) ==
  /\ life[h] = "alive" /\ how \in {"crashed", "vanished"}
  /\ life' = [life EXCEPT ![h] = how] /\ free' = [free EXCEPT ![h] = 0]
  /\ sequence' = [sequence EXCEPT ![h] = 0]
  /\ pending' = [pending EXCEPT ![h] = NoCall]
  /\ answers' = {a \in answers : a.holder # h}
  /\ UNCHANGED <<authority, requests, calls>>

-----------------------------------------------------------------------------
\* The authority. Each is one durable transaction, so a restart of it is no
\* step: nothing but what is durable is remembered.

\* A call, whenever and however often it arrives. Who calls is not gone: a
\* lease that had lapsed is held again (revive).
Lease(c, granted) ==
  /\ c \in calls /\ ~closed[c.holder] /\ c.sequence > heard[c.holder]
  /\ granted \in {0, c.want}
  /\ granted <= Available + Least(c.returned, outstanding[c.holder])
  /\ heard' = [heard EXCEPT ![c.holder] = c.sequence]
  /\ outstanding' = [outstanding EXCEPT ![c.holder] =
                       Most(0, @ - c.returned) + granted]
  /\ lapsed' = [lapsed EXCEPT ![c.holder] = FALSE]
  /\ answers' = IF pending[c.holder].sequence = c.sequence
                THEN answers \cup {[holder |-> c.holder, sequence |-> c.sequence,
                                    granted |-> granted]}
                ELSE answers
  /\ UNCHANGED <<spent, closed, booked, holders, requests, calls>>

\* A batch that was heard before changes nothing, and says so.
LeaseAgain(c) ==
  /\ c \in calls /\ ~closed[c.holder] /\ c.sequence <= heard[c.holder]
  /\ pending[c.holder].sequence = c.sequence
  /\ answers' = answers \cup {[holder |-> c.holder, sequence |-> c.sequence,
                               granted |-> 0]}
  /\ UNCHANGED <<authority, holders, requests, calls>>

\* A report of a settled request: late, doubled, after the end of its holder.
\* A holder that lives gives back by itself what a request did not use.
Report(r) ==
  /\ stage[r] = "settled" /\ r \notin booked
  /\ LET h == owner[r]
         covered == IF closed[h] THEN Hold ELSE used[r]
         left == Most(0, outstanding[h] - covered)
     IN  /\ outstanding' = [outstanding EXCEPT ![h] = left]
         /\ lapsed' = [lapsed EXCEPT ![h] = @ /\ left > 0]
  /\ spent' = spent + used[r] /\ booked' = booked \cup {r}
  /\ UNCHANGED <<closed, heard, holders, requests, network>>

\* At any moment: clocks of holder and authority may differ by any amount.
Lapse(h) ==
  /\ outstanding[h] > 0 /\ ~lapsed[h]
  /\ lapsed' = [lapsed EXCEPT ![h] = TRUE]
  /\ UNCHANGED <<spent, outstanding, closed, heard, booked, holders, requests, network>>

\* By the holder itself in order, or by whoever reads the spool of one that
\* crashed; in both cases only once all that is settled is booked.
Close(h) ==
  /\ \/ life[h] = "crashed"
     \/ life[h] = "alive" /\ pending[h] = NoCall /\ InFlight(h) = {}
  /\ Unbooked(h) = {}
  /\ LET kept == Least(Kept(h), outstanding[h])
     IN  /\ outstanding' = [outstanding EXCEPT ![h] = kept]
         /\ lapsed' = [lapsed EXCEPT ![h] = kept > 0]
  /\ closed' = [closed EXCEPT ![h] = TRUE]
  /\ life' = [life EXCEPT ![h] = "ended"] /\ free' = [free EXCEPT ![h] = 0]
  /\ sequence' = [sequence EXCEPT ![h] = 0]
  /\ calls' = {c \in calls : c.holder # h}
  /\ UNCHANGED <<spent, heard, booked, pending, requests, answers>>

Next ==
  \/ \E h \in Holders :
       \/ \E want \in Wants, returned \in {0, free[h]} : Call(h, want, returned)
       \/ GiveUp(h) \/ Lapse(h) \/ Close(h)
       \/ \E r \in Requests : Begin(h, r)
       \/ \E how \in {"crashed", "vanished"} : Die(h, how)
  \/ \E r \in Requests :
       \/ Settle(r) \/ Report(r)
       \/ \E amount \in 1..Hold : Serve(r, amount)
  \/ \E c \in calls : LeaseAgain(c) \/ \E granted \in {0, c.want} : Lease(c, granted)
  \/ \E a \in answers : Hear(a)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
\* I1: no overshoot, as long as the provider keeps its bound.
NoOvershoot == spent + Unreconciled + Held <= Cap

\* I2: whatever the provider counted stands with us, charged or set aside.
NothingLost == Provider <= spent + Unreconciled + Held

\* I3: each request counts once, however often it is reported.
CountedOnce == spent = SumOver(booked, used)

\* What keeps I1 and I2: a holder hands out no more than its lease.
Covered ==
  \A h \in Holders : life[h] \in {"alive", "crashed"} =>
    free[h] + Kept(h) + SumOver(Unbooked(h), used) <= outstanding[h]

Lapsing == \A h \in Holders : outstanding[h] >= 0 /\ (lapsed[h] => outstanding[h] > 0)

THEOREM Spec => [](NoOvershoot /\ NothingLost /\ CountedOnce /\ Covered /\ Lapsing)
=============================================================================
