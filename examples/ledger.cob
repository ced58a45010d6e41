      *> COBOL: an account. Reads "deposit 12.50", "withdraw 3" or "balance", one per
      *> line, and prints the balance or the reason of a refusal.
      *>
      *>     make -C examples ledger
      *>     chimirror-server --framing lines -- build/examples/ledger
       IDENTIFICATION DIVISION.
       PROGRAM-ID. LEDGER.
       ENVIRONMENT DIVISION.
       INPUT-OUTPUT SECTION.
       FILE-CONTROL.
           SELECT REQUESTS ASSIGN TO KEYBOARD
               ORGANIZATION IS LINE SEQUENTIAL.
       DATA DIVISION.
       FILE SECTION.
       FD  REQUESTS.
       01  REQUEST              PIC X(80).
       WORKING-STORAGE SECTION.
       01  DONE                 PIC 9 VALUE 0.
       01  VERB                 PIC X(10).
       01  AMOUNT-TEXT          PIC X(20).
       01  AMOUNT               PIC S9(12)V99.
       01  BALANCE              PIC S9(12)V99 VALUE 0.
       01  SHOWN                PIC -(12)9.99.
       PROCEDURE DIVISION.
       MAIN-LINE.
           OPEN INPUT REQUESTS
           PERFORM UNTIL DONE = 1
               READ REQUESTS
                   AT END MOVE 1 TO DONE
                   NOT AT END PERFORM ANSWER
               END-READ
           END-PERFORM
           CLOSE REQUESTS
           STOP RUN.

       ANSWER.
           MOVE SPACES TO VERB AMOUNT-TEXT
           UNSTRING REQUEST DELIMITED BY ALL SPACE
               INTO VERB AMOUNT-TEXT
           END-UNSTRING
           EVALUATE FUNCTION LOWER-CASE(FUNCTION TRIM(VERB))
               WHEN "balance"
                   PERFORM TELL
               WHEN "deposit"
                   PERFORM TAKE-AMOUNT
                   IF AMOUNT > 0
                       ADD AMOUNT TO BALANCE
                       PERFORM TELL
                   END-IF
               WHEN "withdraw"
                   PERFORM TAKE-AMOUNT
                   EVALUATE TRUE
                       WHEN AMOUNT > BALANCE
                           DISPLAY "refused: the account has not so much"
                       WHEN AMOUNT > 0
                           SUBTRACT AMOUNT FROM BALANCE
                           PERFORM TELL
                   END-EVALUATE
               WHEN OTHER
                   DISPLAY "say deposit, withdraw or balance"
           END-EVALUATE.

       TAKE-AMOUNT.
           MOVE 0 TO AMOUNT
           IF FUNCTION TEST-NUMVAL(AMOUNT-TEXT) = 0
               COMPUTE AMOUNT = FUNCTION NUMVAL(AMOUNT-TEXT)
           END-IF
           IF AMOUNT NOT > 0
               MOVE 0 TO AMOUNT
               DISPLAY "refused: an amount above zero is needed"
           END-IF.

       TELL.
           MOVE BALANCE TO SHOWN
           DISPLAY "balance " FUNCTION TRIM(SHOWN).
